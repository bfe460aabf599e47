//! Fetching over connections that close, stall, lie and vanish.

use crate::head::Head as Server;
use piseduce_agent::cancel::Cancel;
use piseduce_agent::clock;
use piseduce_agent::image::Source as _;
use piseduce_agent::image::fetch::{FetchError, Head};
use piseduce_protocol::id::Hash;
use piseduce_protocol::path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(1);

/// A server with 20 chunks, and their raw bytes.
fn server() -> (Server, Vec<Vec<u8>>) {
    let server = Server::new();
    let chunks: Vec<Vec<u8>> = (0..20u8).map(|seed| vec![seed; 100_000]).collect();
    for raw in &chunks {
        server.serve(path::chunk(Hash::of(raw)), zstd::bulk::compress(raw, 1).unwrap(), true);
    }
    (server, chunks)
}

fn fetch(head: &Head, raw: &[u8]) -> Result<(), FetchError> {
    let mut found = vec![0; raw.len()];
    head.chunk(Hash::of(raw), &mut found)?;
    assert!(found == raw, "right hash, wrong bytes");
    Ok(())
}

fn head(server: &Server) -> Head {
    Head::new(&server.address, PATIENCE, &Cancel::new())
}

#[test]
fn chunks_come_packed_or_plain_over_connections_that_are_closed_or_cut() {
    let (server, chunks) = server();
    server.close_after(3);
    server.cut_next(2);
    server.answer_next(&[503, 500, 429]);
    let head = head(&server);
    chunks.iter().for_each(|raw| fetch(&head, raw).unwrap());
    server.only_identity();
    chunks.iter().for_each(|raw| fetch(&head, raw).unwrap());
}

#[test]
fn a_lie_is_asked_for_again_and_believed_never() {
    let (server, chunks) = server();
    let head = head(&server);
    let path = path::chunk(Hash::of(&chunks[0]));
    server.lie(path.clone(), 2);
    fetch(&head, &chunks[0]).unwrap();
    for plain in [false, true] {
        if plain {
            server.only_identity();
        }
        server.lie(path.clone(), 3);
        let error = fetch(&head, &chunks[0]).unwrap_err();
        assert!(matches!(error, FetchError::WrongHash { .. }), "{error:?}");
    }
    let before = server.requests().len();
    let longer = [chunks[1].as_slice(), b"x"].concat();
    server.serve(path::chunk(Hash::of(&longer)), zstd::bulk::compress(&chunks[1], 1).unwrap(), true);
    assert!(matches!(fetch(&head, &longer), Err(FetchError::WrongHash { .. })), "a chunk that is too short");
    assert_eq!(server.requests().len(), before + 3);
}

#[test]
fn what_is_not_there_is_refused_at_once_and_a_dead_head_after_a_while() {
    let (server, _) = server();
    let head = head(&server);
    let error = head.manifest(Hash([1; 32])).unwrap_err();
    assert!(matches!(error, FetchError::Refused { status: 404, .. }), "{error:?}");
    let bytes = b"no manifest".to_vec();
    let name = Hash::of(&bytes);
    server.serve(path::manifest(name), bytes, false);
    assert!(matches!(head.manifest(name), Err(FetchError::Manifest { .. })));

    let start = clock::now();
    let nobody = Head::new("127.0.0.1:1", PATIENCE, &Cancel::new());
    let error = fetch(&nobody, b"x").unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error:?}");
    assert!((PATIENCE..PATIENCE * 10).contains(&start.elapsed()));
}

#[test]
fn an_answer_without_end_is_not_swallowed() {
    let (server, _) = server();
    let name = Hash([2; 32]);
    server.serve(path::chunk(name), vec![0; 4 << 20], false);
    let error = head(&server).chunk(name, &mut [0; 512]).unwrap_err();
    assert!(matches!(error, FetchError::TooLong { .. }), "{error:?}");
}

#[test]
fn a_stop_ends_a_fetch_that_waits_for_its_answer() {
    let (server, chunks) = server();
    server.delay(Duration::from_secs(8));
    let cancel = Cancel::new();
    let head = Head::new(&server.address, PATIENCE, &cancel);
    let start = clock::now();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| fetch(&head, &chunks[0]));
        crate::wait::until("the request", || match server.requests().len() {
            0 => Err("no request yet"),
            _ => Ok(()),
        });
        cancel.cancel();
        assert!(matches!(fetching.join().unwrap(), Err(FetchError::Cancelled(_))));
    });
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
