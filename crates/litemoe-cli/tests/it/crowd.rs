//! `litemoe serve` among garbled, idle and slow clients. With `LITEMOE_CROWD` it is the example foundation that is
//! served, among 1 000 idle and 200 slow clients and all fuzzed requests (`LITEMOE_FUZZ_RUNS`).

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use litemoe_fixtures::fuzz::{JSON_VALUES, fuzz};

use crate::bench::{Bench, copy_dir};
use crate::serving::{LONG, Served, answer, chat, requests, send};

const FULL: &str = "LITEMOE_CROWD";

/// Time after which a garbled request's client gives up.
const PATIENCE: Duration = Duration::from_millis(100);

const CLIENTS: usize = 16;

struct Size {
    n_idle: usize,
    n_slow: usize,
    n_garbled: usize,
    /// Time within which others are served.
    max_time: Duration,
    /// Time between two bytes of a slow client.
    pause: Duration,
}

/// Sends a request byte by byte to the slow connections, again and again until it is over.
fn trickle(slow: &[TcpStream], is_over: &AtomicBool, pause: Duration) {
    let request = chat("add 3 and 4", "");
    // Never the last byte: the request stays open.
    for byte in request.as_bytes()[..request.len() - 1].chunks(1) {
        for stream in slow {
            (&mut &*stream).write_all(byte).expect("sent");
        }
        let begin = Instant::now();
        while begin.elapsed() < pause {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(pause.min(Duration::from_millis(20)));
        }
    }
}

#[test]
fn others_are_served_among_garbled_idle_and_slow_clients() {
    let is_full = std::env::var_os(FULL).is_some();
    let size = match is_full {
        true => Size {
            n_idle: 1000,
            n_slow: 200,
            n_garbled: usize::MAX,
            max_time: Duration::from_secs(1),
            pause: Duration::from_secs(1),
        },
        false => Size {
            n_idle: 50,
            n_slow: 20,
            n_garbled: 500,
            max_time: LONG,
            pause: Duration::from_millis(10),
        },
    };
    rlimit::increase_nofile_limit(4096).expect("a limit");
    let bench = Bench::new();
    if is_full {
        fs::remove_dir_all(bench.path("model")).expect("removed");
        copy_dir(&litemoe_fixtures::foundation_dir(), &bench.path("model"));
    }
    let options = ["--timeout", "3600", "--max-context", "64", "--max-n", "2"];
    let server = Served::of(bench, &options, None);
    let values =
        [JSON_VALUES, &["\r\n", "\r\n\r\n", "HTTP/1.0", "chunked", "content-length: 7\r\n"]]
            .concat();
    let mut documents = Vec::new();
    fuzz(&requests(), &values, |_, document| documents.push(document.to_vec()));
    documents.truncate(size.n_garbled);
    let idle: Vec<_> = (0..size.n_idle).map(|_| server.connect()).collect();
    let slow: Vec<_> = (0..size.n_slow).map(|_| server.connect()).collect();
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let take = || {
        let index = next.fetch_add(1, Ordering::Relaxed);
        documents.get(index).map(|bytes| (index, bytes))
    };
    let (mut slowest_health, mut slowest_chat) = (Duration::ZERO, Duration::ZERO);
    let mut early = 0;
    thread::scope(|scope| {
        scope.spawn(|| trickle(&slow, &is_over, size.pause));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((index, bytes)) = take() {
                        let stream = server.connect();
                        stream.set_read_timeout(Some(PATIENCE)).expect("set");
                        send(stream, index, bytes);
                    }
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            slowest_health = slowest_health.max(server.health());
            let begin = Instant::now();
            let found = answer(&mut server.connect(), &chat("hi", r#","max_tokens":4"#));
            assert!(found.starts_with("HTTP/1.1 200 OK"), "{found}");
            slowest_chat = slowest_chat.max(begin.elapsed());
            // Memory after a tenth of the requests, when every kind of them has been served.
            if early == 0 && next.load(Ordering::Relaxed) > documents.len() / 10 {
                early = server.memory("VmRSS:");
            }
            thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let late = server.memory("VmRSS:");
    println!(
        "{} garbled requests, {} idle and {} slow clients: /health within {slowest_health:?}, an answer within \
         {slowest_chat:?}; {early} MiB, then {late} MiB",
        documents.len(),
        idle.len(),
        slow.len()
    );
    assert!(slowest_health < size.max_time && slowest_chat < size.max_time);
    assert!(late < early + 32, "{early} MiB, then {late} MiB");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
