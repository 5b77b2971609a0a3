//! Redirects without end, to nowhere, and to hosts that must not see the token.

use std::io::Write;

use super::{Scene, WEIGHTS, attack};
use crate::hub_server::{HubServer, response};

const API: &str = "/api/models/";

/// Redirect to a place.
fn redirect(location: &str) -> Vec<u8> {
    response("302 Found", &format!("location: {location}\r\n"), b"")
}

/// Hub that redirects to a place instead of listing files.
fn redirects(location: &str) -> Scene {
    Scene::sends(API, redirect(location))
}

/// Another server of the same model, which needs no token.
fn elsewhere(scene: &Scene) -> HubServer {
    HubServer::of(&scene.pull.bench.path("model"))
}

/// Checks that a server was asked, but was not told a token.
#[track_caller]
fn saw_no_token(server: &HubServer) {
    let seen = &server.hub().seen;
    assert!(!seen.is_empty() && seen.iter().all(|request| request.token.is_none()), "{seen:?}");
}

#[test]
fn a_redirect_in_a_circle_ends() {
    let scene = redirects("/api/models/again");
    scene.fails(&["redirects more than 5 times"]);
    assert_eq!(scene.pull.server.hub().seen.len(), 6);
}

#[test]
fn redirects_without_end_end() {
    let scene = Scene::answers("/", |request, stream| {
        stream.write_all(&redirect(&format!("{}x", request.path)))
    });
    scene.fails(&["redirects more than 5 times"]);
    assert_eq!(scene.pull.server.hub().seen.len(), 6);
}

#[test]
fn a_redirect_to_a_file_is_not_followed() {
    redirects("file:///etc/hostname").fails(&["file:///etc/hostname"]);
}

#[test]
fn a_redirect_to_another_protocol_is_not_followed() {
    redirects("ftp://127.0.0.1/x").fails(&["ftp://127.0.0.1/x", "https://host"]);
}

#[test]
fn a_redirect_with_a_password_is_not_followed() {
    redirects("http://user:password@127.0.0.1/x").fails(&["https://host"]);
}

#[test]
fn a_redirect_without_a_scheme_is_not_followed() {
    redirects("//127.0.0.1/x").fails(&["//127.0.0.1/x"]);
}

#[test]
fn a_redirect_to_a_relative_path_is_not_followed() {
    redirects("../x").fails(&["../x"]);
}

#[test]
fn a_redirect_to_nowhere_is_not_followed() {
    Scene::sends(API, response("302 Found", "", b"")).fails(&["302", "to nowhere"]);
}

#[test]
fn a_redirect_to_a_long_address_is_shown_in_part() {
    let scene = redirects(&format!("ftp://{}", "a".repeat(30_000)));
    scene.fails(&["ftp://aaa"]);
    let run = scene.run(&mut scene.command(crate::hub_server::ID));
    assert!(run.stderr.len() < 1000, "{}", run.stderr.len());
}

#[test]
fn the_server_of_large_files_does_not_see_the_token() {
    let scene = Scene::new();
    let elsewhere = elsewhere(&scene);
    scene.pull.server.hub().cdn = Some(elsewhere.endpoint());
    scene.succeeds();
    assert_eq!(elsewhere.hub().sent_of(WEIGHTS).len(), 1);
    saw_no_token(&elsewhere);
}

#[test]
fn the_server_to_which_a_transfer_goes_on_does_not_see_the_token() {
    let scene = Scene::new();
    let elsewhere = elsewhere(&scene);
    scene.pull.server.hub().cdn = Some(elsewhere.endpoint());
    let half = scene.contents(WEIGHTS).len() / 2;
    elsewhere.hub().cut = Some((WEIGHTS.to_owned(), half));
    scene.fails(&[WEIGHTS, "broke off"]);
    scene.succeeds();
    assert_eq!(elsewhere.hub().sent_of(WEIGHTS)[1].start, half);
    saw_no_token(&elsewhere);
}

#[test]
fn a_server_to_which_the_list_of_files_moves_does_not_see_the_token() {
    let scene = Scene::new();
    let elsewhere = elsewhere(&scene);
    let to = elsewhere.endpoint();
    attack(&scene.pull.server, API, move |request, stream| {
        stream.write_all(&redirect(&format!("{to}{}", request.path)))
    });
    scene.succeeds();
    saw_no_token(&elsewhere);
}

#[test]
fn a_server_that_sends_back_to_the_hub_does_not_see_the_token() {
    let scene = Scene::new();
    let elsewhere = elsewhere(&scene);
    scene.pull.server.hub().cdn = Some(elsewhere.endpoint());
    let back = scene.pull.server.endpoint();
    attack(&elsewhere, "/cdn/", move |request, stream| {
        stream.write_all(&redirect(&format!("{back}{}", request.path)))
    });
    scene.succeeds();
    saw_no_token(&elsewhere);
}
