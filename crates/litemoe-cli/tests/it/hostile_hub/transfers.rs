//! Files that are not what the list says, and answers that are none.

use std::fs;
use std::io::Write;

use super::{Scene, WEIGHTS, drip, tree};
use crate::hub_server::{ID, respond_with, response};
use crate::pull::names;

/// A file that is stored on the hub itself.
const SMALL: &str = "/config.json";
/// A file that the hub redirects to.
const LARGE: &str = "/cdn/model.safetensors";

/// Hub that sends `config.json` with these headers, and then other bytes.
fn with_headers(headers: &str) -> Scene {
    let config = fs::read(litemoe_fixtures::tiny_dir().join("config.json")).expect("a file");
    let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
    Scene::sends(SMALL, [head.as_bytes(), &config].concat())
}

fn config_length() -> usize {
    let config = litemoe_fixtures::tiny_dir().join("config.json");
    usize::try_from(fs::metadata(config).expect("a file").len()).expect("small")
}

/// Scene in which half of the weights are there, and the hub answers the request for the rest by these bytes.
fn resumed(answer: impl Fn(&[u8], usize) -> Vec<u8>) -> Scene {
    let scene = Scene::new();
    let weights = scene.contents(WEIGHTS);
    let half = weights.len() / 2;
    scene.pull.server.hub().cut = Some((WEIGHTS.to_owned(), half));
    scene.fails(&["broke off"]);
    let answer = answer(&weights, half);
    super::attack(&scene.pull.server, LARGE, move |_, stream| stream.write_all(&answer));
    scene
}

fn part(range: &str, bytes: &[u8]) -> Vec<u8> {
    response("206 Partial Content", &format!("content-range: bytes {range}\r\n"), bytes)
}

#[test]
fn wrong_bytes_of_a_small_file_are_refused_and_not_kept() {
    let scene = Scene::new();
    scene.pull.server.hub().spoil = Some("config.json".to_owned());
    scene.fails(&["config.json", "git blob hash", "fetch it again"]);
    assert!(names(&scene.pull.repo().join("blobs")).is_empty());
    scene.succeeds();
}

#[test]
fn wrong_bytes_of_a_large_file_are_refused_and_not_kept() {
    let scene = Scene::new();
    scene.pull.server.hub().spoil = Some(WEIGHTS.to_owned());
    scene.fails(&[WEIGHTS, "SHA-256", "fetch it again"]);
    let blobs = names(&scene.pull.repo().join("blobs"));
    assert!(blobs.iter().all(|name| name.len() == 40), "{blobs:?}");
    scene.succeeds();
}

#[test]
fn a_file_that_is_longer_than_listed_is_refused() {
    with_headers(&format!("content-length: {}\r\n", config_length() + 1)).fails(&["announces"]);
}

#[test]
fn a_file_that_is_shorter_than_listed_is_refused() {
    with_headers(&format!("content-length: {}\r\n", config_length() - 1)).fails(&["announces"]);
}

#[test]
fn a_length_that_is_none_is_refused() {
    for length in ["-1", "+1", "1e3", "18446744073709551616", "99999999999999999999999"] {
        with_headers(&format!("content-length: {length}\r\n")).fails(&["config.json"]);
    }
}

#[test]
fn a_file_of_an_unknown_length_is_refused() {
    with_headers("connection: close\r\n").fails(&["config.json", "does not announce"]);
}

#[test]
fn a_file_in_chunks_is_refused() {
    with_headers("transfer-encoding: chunked\r\n").fails(&["config.json", "chunks"]);
}

#[test]
fn a_file_of_a_length_and_in_chunks_is_refused() {
    let length = config_length();
    with_headers(&format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"))
        .fails(&["config.json", "chunks"]);
}

#[test]
fn a_compressed_file_is_not_decoded() {
    let length = config_length();
    for encoding in ["gzip", "deflate", "br", "zstd", "x-other"] {
        with_headers(&format!("content-length: {length}\r\ncontent-encoding: {encoding}\r\n"))
            .fails(&["config.json", "compresses"]);
    }
}

#[test]
fn a_file_without_end_is_read_up_to_its_length() {
    let config = fs::read(litemoe_fixtures::tiny_dir().join("config.json")).expect("a file");
    let scene = Scene::answers(SMALL, move |_, stream| {
        stream.write_all(&response("200 OK", "", &config))?;
        drip(stream, &[0; 1 << 16], std::time::Duration::ZERO)
    });
    scene.succeeds();
}

#[test]
fn a_file_that_breaks_off_is_refused() {
    let config = fs::read(litemoe_fixtures::tiny_dir().join("config.json")).expect("a file");
    let half = &config[..config.len() / 2];
    let scene = Scene::sends(SMALL, respond_with("200 OK", "", config.len(), half));
    scene.fails(&["config.json", "broke off"]);
}

#[test]
fn a_part_that_was_not_asked_for_is_refused() {
    let config = fs::read(litemoe_fixtures::tiny_dir().join("config.json")).expect("a file");
    let range = format!("0-{}/{}", config.len() - 1, config.len());
    Scene::sends(SMALL, part(&range, &config)).fails(&["config.json", "206"]);
}

#[test]
fn a_transfer_goes_on_only_where_it_broke_off() {
    resumed(|weights, half| {
        let range = format!("{}-{}/{}", half - 1, weights.len() - 2, weights.len());
        part(&range, &weights[half - 1..weights.len() - 1])
    })
    .fails(&[WEIGHTS, "range"]);
}

#[test]
fn a_transfer_goes_on_only_in_contents_of_the_same_length() {
    resumed(|weights, half| {
        let range = format!("{half}-{}/{}", weights.len() - 1, weights.len() + 1);
        part(&range, &weights[half..])
    })
    .fails(&[WEIGHTS, "range"]);
}

#[test]
fn a_transfer_does_not_go_on_without_a_range() {
    resumed(|weights, half| response("206 Partial Content", "", &weights[half..]))
        .fails(&[WEIGHTS, "range"]);
}

#[test]
fn a_transfer_that_starts_over_is_whole() {
    resumed(|weights, _| response("200 OK", "", weights)).succeeds();
}

#[test]
fn a_transfer_that_goes_on_with_other_contents_is_refused_and_not_kept() {
    let scene = resumed(|weights, half| {
        let range = format!("{half}-{}/{}", weights.len() - 1, weights.len());
        part(&range, &vec![0; weights.len() - half])
    });
    scene.fails(&[WEIGHTS, "SHA-256", "fetch it again"]);
    scene.pull.server.hub().attack = None;
    scene.succeeds();
}

#[test]
fn a_partial_file_of_other_contents_is_not_kept() {
    let scene = Scene::new();
    let etag = scene.pull.server.hub().etag(WEIGHTS);
    let blobs = scene.pull.repo().join("blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    fs::write(blobs.join(etag).with_extension("incomplete"), [1; 100]).expect("written");
    scene.fails(&[WEIGHTS, "SHA-256", "fetch it again"]);
    scene.succeeds();
}

#[test]
fn contents_in_the_cache_of_another_hash_are_fetched_again() {
    let scene = Scene::new();
    let etag = scene.pull.server.hub().etag(WEIGHTS);
    let mut bytes = scene.contents(WEIGHTS);
    bytes[0] ^= 1;
    let blobs = scene.pull.repo().join("blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    fs::write(blobs.join(etag), &bytes).expect("written");
    scene.succeeds();
}

#[test]
fn contents_in_the_cache_stay_until_others_are_whole() {
    let scene = Scene::new();
    let etag = scene.pull.server.hub().etag(WEIGHTS);
    let mut bytes = scene.contents(WEIGHTS);
    bytes[0] ^= 1;
    let blob = scene.pull.repo().join("blobs").join(etag);
    fs::create_dir_all(blob.parent().expect("a folder")).expect("a folder");
    for bytes in [&bytes[..], &bytes[1..]] {
        fs::write(&blob, bytes).expect("written");
        scene.pull.server.hub().cut = Some((WEIGHTS.to_owned(), 100));
        scene.fails(&["broke off"]);
        assert!(fs::read(&blob).expect("a blob") == bytes, "it is removed");
    }
    scene.succeeds();
}

#[test]
fn whole_contents_are_kept_whatever_length_is_listed() {
    for name in ["config.json", WEIGHTS] {
        for wrong in [-1, 1] {
            let scene = Scene::new();
            scene.succeeds();
            let blobs = || tree(&scene.pull.repo());
            let before = blobs();
            let size = scene.contents(name).len();
            let listed = size.checked_add_signed(wrong).expect("a length");
            scene.pull.server.hub().edit = Some(Box::new(move |info| {
                let files = info["siblings"].as_array_mut().expect("files");
                let file = files.iter_mut().find(|file| file["rfilename"] == name);
                let file = file.expect("the file");
                file["size"] = listed.into();
                if file.get("lfs").is_some() {
                    file["lfs"]["size"] = listed.into();
                }
            }));
            scene.fails(&[name, &format!("{listed} bytes"), &format!("have {size}")]);
            assert!(blobs() == before, "{name}: {listed}");
        }
    }
}

#[test]
fn statuses_that_are_no_answer_are_refused() {
    for status in
        ["204 No Content", "300 Multiple Choices", "304 Not Modified", "416 No", "500 No", "999 No"]
    {
        let code = &status[..3];
        Scene::sends(SMALL, response(status, "", b"")).fails(&["config.json", code]);
    }
}

#[test]
fn a_message_is_printed_without_its_escape_sequences() {
    let head = "x-error-message: \u{9b}2J gone\r\n";
    Scene::sends("/api/models/", response("400 Bad Request", head, b"")).fails(&[ID, "400"]);
}

#[test]
fn a_long_message_is_printed_in_part() {
    let head = format!("x-error-message: {}\r\n", "a".repeat(30_000));
    let scene = Scene::sends("/api/models/", response("400 Bad Request", &head, b""));
    let run = scene.run(&mut scene.command(ID));
    assert!(run.code == 1 && run.stderr.len() < 1000, "{}", run.stderr.len());
}

#[test]
fn what_is_no_http_is_refused() {
    for bytes in [&b""[..], b"SSH-2.0-OpenSSH_9.0\r\n", b"\0\0\0\0\r\n\r\n", b"HTTP/1.1 200"] {
        Scene::sends("/api/models/", bytes).fails(&["cannot reach", "127.0.0.1"]);
    }
}
