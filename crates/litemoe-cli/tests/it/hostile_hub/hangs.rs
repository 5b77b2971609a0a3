//! Answers that never end: each ends soon after the time without progress.

use std::io::{self, Write};
use std::time::Duration;

use super::{Scene, WEIGHTS, drip};
use crate::hub_server::{ID, respond_with};

const API: &str = "/api/models/";
const LARGE: &str = "/cdn/model.safetensors";
/// Shorter than the time without progress.
const PAUSE: Duration = Duration::from_millis(200);
const GIVES_UP: &str = "next to nothing, for 1 s";

/// Hub that sends some bytes and then the same ones again and again.
fn drips(part: &'static str, head: &'static str, bytes: &'static str, pause: Duration) -> Scene {
    Scene::answers(part, move |_, stream| {
        stream.write_all(head.as_bytes())?;
        drip(stream, bytes.as_bytes(), pause)
    })
}

/// Hub that sends some bytes and then waits for the other end to hang up.
fn stops(part: &'static str, bytes: impl Into<Vec<u8>>) -> Scene {
    let bytes = bytes.into();
    Scene::answers(part, move |_, stream| {
        stream.write_all(&bytes)?;
        io::copy(stream, &mut io::sink()).map(drop)
    })
}

#[test]
fn a_hub_that_says_nothing_is_given_up() {
    stops(API, "").ends(&[GIVES_UP]);
}

#[test]
fn a_status_that_drips_is_given_up() {
    drips(API, "HTTP/1.1 200 ", "O", PAUSE).ends(&[GIVES_UP]);
}

#[test]
fn headers_that_drip_are_given_up() {
    drips(API, "HTTP/1.1 200 OK\r\n", "x: y\r\n", PAUSE).ends(&[GIVES_UP]);
}

#[test]
fn headers_without_end_are_given_up() {
    drips(API, "HTTP/1.1 200 OK\r\n", "x: y\r\n", Duration::ZERO).ends(&["cannot reach"]);
}

#[test]
fn a_header_without_end_is_given_up() {
    drips(API, "HTTP/1.1 200 OK\r\nx: ", "yyyyyyyy", Duration::ZERO).ends(&["cannot reach"]);
}

#[test]
fn interim_responses_without_end_are_given_up() {
    drips(API, "", "HTTP/1.1 100 Continue\r\n\r\n", PAUSE).ends(&["127.0.0.1"]);
}

#[test]
fn many_interim_responses_without_end_are_given_up() {
    drips(API, "", "HTTP/1.1 102 Processing\r\n\r\n", Duration::ZERO).ends(&["127.0.0.1"]);
}

#[test]
fn a_list_that_stops_is_given_up() {
    stops(API, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").ends(&[ID, GIVES_UP]);
}

#[test]
fn a_list_that_drips_is_given_up() {
    drips(API, "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", " ", PAUSE)
        .ends(&[ID, GIVES_UP]);
}

#[test]
fn a_list_that_drips_up_to_the_end_of_the_connection_is_given_up() {
    drips(API, "HTTP/1.1 200 OK\r\n\r\n", " ", PAUSE).ends(&[ID, GIVES_UP]);
}

#[test]
fn chunks_that_drip_are_given_up() {
    drips(API, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\n \r\n", PAUSE)
        .ends(&[ID, GIVES_UP]);
}

#[test]
fn a_length_of_a_chunk_without_end_is_given_up() {
    drips(API, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "0000", Duration::ZERO)
        .ends(&[ID]);
}

#[test]
fn a_trailer_without_end_is_given_up() {
    drips(API, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "x: y\r\n", PAUSE)
        .ends(&[ID]);
}

#[test]
fn redirects_that_drip_are_given_up() {
    let scene = Scene::answers("/", |_, stream| {
        std::thread::sleep(3 * PAUSE);
        stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n")
    });
    scene.ends(&["127.0.0.1"]);
}

#[test]
fn a_body_of_a_redirect_is_not_waited_for() {
    let head = "HTTP/1.1 302 Found\r\nlocation: ftp://127.0.0.1/\r\ncontent-length: 100000\r\n\r\n";
    drips(API, head, " ", PAUSE).ends(&["ftp://127.0.0.1/"]);
}

#[test]
fn a_body_of_a_refusal_is_not_waited_for() {
    drips(API, "HTTP/1.1 404 Not Found\r\ncontent-length: 100000\r\n\r\n", " ", PAUSE)
        .ends(&["404"]);
}

#[test]
fn weights_that_stop_are_given_up_and_go_on_later() {
    let weights = Scene::new().contents(WEIGHTS);
    let half = weights.len() / 2;
    let scene = stops(LARGE, respond_with("200 OK", "", weights.len(), &weights[..half]));
    scene.ends(&[WEIGHTS, "broke off", GIVES_UP]);
    scene.pull.server.hub().attack = None;
    scene.succeeds();
    let sent = scene.pull.server.hub().sent_of(WEIGHTS);
    assert_eq!((sent.len(), &sent[0]), (1, &(half..weights.len())));
}

#[test]
fn weights_that_drip_are_given_up() {
    let weights = Scene::new().contents(WEIGHTS);
    let head = respond_with("200 OK", "", weights.len(), b"");
    let scene = Scene::answers(LARGE, move |_, stream| {
        stream.write_all(&head)?;
        for byte in &weights {
            stream.write_all(&[*byte])?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    });
    scene.ends(&[WEIGHTS, "broke off", GIVES_UP]);
}

#[test]
fn a_time_without_progress_that_is_none_is_refused() {
    let scene = Scene::new();
    for seconds in ["0", "-1", "1.5", "soon", "100000"] {
        let mut command = scene.command(ID);
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", seconds);
        scene.fails_by(&mut command, &["HF_HUB_DOWNLOAD_TIMEOUT", seconds]);
    }
}
