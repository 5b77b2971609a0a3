//! Local Hub server with one model, which can interrupt, corrupt and refuse transfers, or attack.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Id of the only model.
pub(crate) const ID: &str = "org/tiny";

/// Handle of the server; its thread ends with the process.
pub(crate) struct HubServer {
    address: SocketAddr,
    hub: Arc<Mutex<Hub>>,
}

/// State of the server: files, behaviour and log.
#[derive(Default)]
pub(crate) struct Hub {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Commit of its only branch, `main`, and its only tag, `v1`.
    pub(crate) commit: String,
    /// Required access token; `None` accepts all requests.
    pub(crate) token: Option<String>,
    /// Whether the model is gated: files are listed but refused.
    pub(crate) gated: bool,
    /// Interrupts the next transfer of this file after this many of the file's bytes.
    pub(crate) cut: Option<(String, usize)>,
    /// Corrupts one byte of the next transfer of this file.
    pub(crate) spoil: Option<String>,
    /// Address of the server of large files; `None` is this one.
    pub(crate) cdn: Option<String>,
    /// Edits the list of files before it is sent.
    pub(crate) edit: Option<Edit>,
    /// Is asked first.
    pub(crate) attack: Option<Attack>,
    /// Requests so far.
    pub(crate) seen: Vec<Request>,
    /// Byte ranges sent of each file.
    pub(crate) sent: Vec<(String, Range<usize>)>,
}

type Edit = Box<dyn Fn(&mut Value) + Send>;
/// Answers a request instead of the server if it returns true.
type Attack = Arc<dyn Fn(&Request, &mut TcpStream) -> io::Result<bool> + Send + Sync>;

impl HubServer {
    /// Server of a directory's files.
    pub(crate) fn of(dir: &Path) -> Self {
        let entries = fs::read_dir(dir).expect("the folder is there");
        let files = entries.map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a file"))
        });
        let hub = Hub { files: files.collect(), commit: "c0".repeat(20), ..Hub::default() };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let hub = Arc::new(Mutex::new(hub));
        let shared = hub.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = shared.clone();
                // A client that disconnects is not an error.
                thread::spawn(move || answer(stream, address, &hub));
            }
        });
        Self { address, hub }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().expect("the hub")
    }
}

impl Hub {
    /// ETag of a file: SHA-256 of large files, which are stored elsewhere, git blob hash of others, as on the Hub.
    pub(crate) fn etag(&self, name: &str) -> String {
        let bytes = &self.files[name];
        if is_large(name) { hex(&Sha256::digest(bytes)) } else { git_blob_hash(bytes) }
    }

    /// Byte ranges sent of one file.
    pub(crate) fn sent_of(&self, name: &str) -> Vec<Range<usize>> {
        let of = self.sent.iter().filter(|(sent, _)| sent == name);
        of.map(|(_, range)| range.clone()).collect()
    }

    fn info(&self) -> Vec<u8> {
        let siblings = self.files.iter().map(|(name, bytes)| {
            let size = bytes.len();
            let mut file = json!({"rfilename": name, "size": size, "blobId": git_blob_hash(bytes)});
            if is_large(name) {
                file["lfs"] = json!({"sha256": self.etag(name), "size": size, "pointerSize": 134});
            }
            file
        });
        let siblings: Vec<Value> = siblings.collect();
        let mut info = json!({"id": ID, "sha": self.commit, "siblings": siblings});
        if let Some(edit) = &self.edit {
            edit(&mut info);
        }
        info.to_string().into_bytes()
    }
}

/// Hash of contents of the kind that a blob of this name has.
pub(crate) fn hash_of(name: &str, bytes: &[u8]) -> String {
    if name.len() == 64 { hex(&Sha256::digest(bytes)) } else { git_blob_hash(bytes) }
}

fn git_blob_hash(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// Request of a client.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    /// First byte of the range.
    from: Option<usize>,
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, token: None, from: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
            "range" => {
                let from = value.strip_prefix("bytes=")?.strip_suffix('-')?;
                request.from = Some(from.parse().ok()?);
            }
            _ => {}
        }
    }
    Some(request)
}

fn answer(mut stream: TcpStream, address: SocketAddr, hub: &Mutex<Hub>) -> Option<()> {
    let request = read(&stream)?;
    let attack = {
        let mut hub = hub.lock().ok()?;
        hub.seen.push(request.clone());
        hub.attack.clone()
    };
    if let Some(attack) = attack
        && attack(&request, &mut stream).ok()?
    {
        return Some(());
    }
    let bytes = respond(&request, address, &mut *hub.lock().ok()?);
    stream.write_all(&bytes).ok()
}

fn respond(request: &Request, address: SocketAddr, hub: &mut Hub) -> Vec<u8> {
    let path = request.path.as_str();
    if let Some(name) = path.strip_prefix("/cdn/") {
        return part(name, request.from, "", hub);
    }
    if hub.token.is_some() && hub.token != request.token {
        return response("401 Unauthorized", "x-error-message: Invalid credentials\r\n", b"");
    }
    let commit = hub.commit.clone();
    let revisions = ["main", "v1", commit.as_str()];
    let revision = |rest: &str| revisions.contains(&rest);
    let api = path.strip_prefix(&format!("/api/models/{ID}/revision/"));
    if api.and_then(|api| api.strip_suffix("?blobs=true")).is_some_and(revision) {
        return response("200 OK", "", &hub.info());
    }
    let file = path.strip_prefix(&format!("/{ID}/resolve/")).and_then(|rest| rest.split_once('/'));
    match file {
        Some((at, name)) if revision(at) && hub.files.contains_key(name) => {
            if hub.gated {
                return response("403 Forbidden", "", b"");
            }
            let (etag, size) = (hub.etag(name), hub.files[name].len());
            if is_large(name) {
                let cdn = hub.cdn.clone().unwrap_or_else(|| format!("http://{address}"));
                let head = format!(
                    "x-repo-commit: {commit}\r\nx-linked-etag: \"{etag}\"\r\nx-linked-size: {size}\r\n\
                     location: {cdn}/cdn/{name}\r\n"
                );
                return response("302 Found", &head, b"");
            }
            let head = format!("x-repo-commit: {commit}\r\netag: \"{etag}\"\r\n");
            part(name, request.from, &head, hub)
        }
        _ => response("404 Not Found", "x-error-code: RepoNotFound\r\n", b""),
    }
}

fn part(name: &str, from: Option<usize>, head: &str, hub: &mut Hub) -> Vec<u8> {
    let mut bytes = hub.files[name].clone();
    let size = bytes.len();
    let begin = from.unwrap_or(0);
    if begin >= size {
        return response("416 Range Not Satisfiable", head, b"");
    }
    let mut end = size;
    if hub.cut.as_ref().is_some_and(|(cut, at)| cut == name && (begin..size).contains(at)) {
        end = hub.cut.take().map_or(end, |(_, at)| at);
    }
    if hub.spoil.as_deref() == Some(name) {
        hub.spoil = None;
        bytes[end - 1] ^= 1;
    }
    hub.sent.push((name.to_owned(), begin..end));
    let (status, head) = match from {
        None => ("200 OK", head.to_owned()),
        Some(_) => {
            let range = format!("content-range: bytes {begin}-{}/{size}\r\n", size - 1);
            ("206 Partial Content", format!("{head}{range}"))
        }
    };
    respond_with(status, &head, size - begin, &bytes[begin..end])
}

/// HTTP response with a length.
pub(crate) fn response(status: &str, head: &str, body: &[u8]) -> Vec<u8> {
    respond_with(status, head, body.len(), body)
}

/// HTTP response that announces `length` bytes.
pub(crate) fn respond_with(status: &str, head: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\n{head}content-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}
