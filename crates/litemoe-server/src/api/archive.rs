use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use tar::{EntryType, Header};

use crate::api::streamed::{CHUNK, streamed};

/// Bytes of a block of a tar archive.
const BLOCK: u64 = 512;

/// Files of a folder as a tar archive, which is written as it is read: `H` is kept until then.
#[derive(Debug)]
pub(crate) struct Archive<H> {
    bytes: u64,
    entries: VecDeque<Entry>,
    open: Option<Open>,
    is_ended: bool,
    _held: H,
}

#[derive(Debug)]
struct Entry {
    header: Header,
    path: PathBuf,
    bytes: u64,
}

/// A file that is being read.
#[derive(Debug)]
struct Open {
    file: File,
    left: u64,
    padding: u64,
}

impl<H: Send + 'static> Archive<H> {
    /// The files of a folder, and those of its folders, in order of their names.
    pub(crate) fn of(folder: &Path, held: H) -> io::Result<Self> {
        let mut entries = VecDeque::new();
        add(folder, Path::new(""), &mut entries)?;
        let of_entry = |entry: &Entry| BLOCK + entry.bytes + padding(entry.bytes);
        let bytes = 2 * BLOCK + entries.iter().map(of_entry).sum::<u64>();
        Ok(Self { bytes, entries, open: None, is_ended: false, _held: held })
    }

    /// The answer to a request, under a file name.
    pub(crate) fn into_response(self, name: &str) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "application/x-tar".to_owned()),
            (header::CONTENT_LENGTH, self.bytes.to_string()),
            (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        ];
        (headers, streamed(self, Self::chunk)).into_response()
    }

    /// The next bytes; none at the end.
    fn chunk(&mut self) -> io::Result<Vec<u8>> {
        if let Some(open) = &mut self.open {
            let mut chunk = Vec::new();
            let wanted = open.left.min(CHUNK);
            (&mut open.file).take(wanted).read_to_end(&mut chunk)?;
            if (chunk.len() as u64) < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            open.left -= wanted;
            if open.left == 0 {
                chunk.resize(chunk.len() + open.padding as usize, 0);
                self.open = None;
            }
            return Ok(chunk);
        }
        if let Some(Entry { header, path, bytes }) = self.entries.pop_front() {
            if bytes > 0 {
                let (file, padding) = (File::open(path)?, padding(bytes));
                self.open = Some(Open { file, left: bytes, padding });
            }
            return Ok(header.as_bytes().to_vec());
        }
        match std::mem::replace(&mut self.is_ended, true) {
            false => Ok(vec![0; 2 * BLOCK as usize]),
            true => Ok(Vec::new()),
        }
    }
}

/// Zeros after a content of so many bytes.
fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK) - bytes
}

fn add(folder: &Path, name: &Path, entries: &mut VecDeque<Entry>) -> io::Result<()> {
    let mut found = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    found.sort_by_key(fs::DirEntry::file_name);
    for entry in found {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        let about = fs::metadata(&path)?;
        if about.is_dir() {
            add(&path, &name, entries)?;
            continue;
        }
        let mut header = Header::new_gnu();
        header.set_path(&name)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(about.len());
        header.set_cksum();
        entries.push_back(Entry { header, path, bytes: about.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn an_archive_has_the_files_with_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let contents: [(&str, Vec<u8>); 4] = [
            ("a", b"one".to_vec()),
            ("empty", Vec::new()),
            ("proxy/block", vec![7; 512]),
            ("proxy/long", (0..200_000u32).map(|i| i as u8).collect()),
        ];
        fs::create_dir(folder.path().join("proxy")).unwrap();
        for (name, content) in &contents {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let mut archive = Archive::of(folder.path(), ()).unwrap();
        let (promised, mut bytes) = (archive.bytes, Vec::new());
        loop {
            let chunk = archive.chunk().unwrap();
            if chunk.is_empty() {
                break;
            }
            bytes.extend(chunk);
        }
        assert_eq!(bytes.len() as u64, promised);
        let mut read = tar::Archive::new(Cursor::new(bytes));
        let found = read.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let (mut content, name) = (Vec::new(), entry.path().unwrap().display().to_string());
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        });
        let found: Vec<_> = found.collect();
        assert_eq!(found, contents.map(|(name, content)| (name.to_owned(), content)));
    }

    #[test]
    fn a_file_that_became_shorter_breaks_the_archive_off() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), [1; 600]).unwrap();
        let mut archive = Archive::of(folder.path(), ()).unwrap();
        fs::write(folder.path().join("a"), [1; 599]).unwrap();
        archive.chunk().unwrap();
        assert_eq!(archive.chunk().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
