//! Images from http addresses: a small real server that may misbehave in every way that networks do.

use crate::disk::{debian_disk, run, xz};
use crate::{Fixture, said};
use piseduce_coordinator::image::{Checksum, FetchError, ImportError, Library, Limits, Origin, Stage, Terms};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

type Answer = Arc<dyn Fn(&mut TcpStream) + Send + Sync>;

/// A server that gives every request the same answer, until it is dropped.
pub(crate) struct Server {
    at: SocketAddr,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// One that answers by `answer`, once it has read the request.
    pub(crate) fn new(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, ending) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (ended, answer): (_, Answer) = (ending.clone(), Arc::new(answer));
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (mut connection, answer) = (connection.unwrap(), answer.clone());
                thread::spawn(move || {
                    let request = BufReader::new(connection.try_clone().unwrap());
                    request.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                    answer(&mut connection);
                });
            }
        });
        Server { at, ending, thread: Some(thread) }
    }

    /// One that serves `bytes` as it should.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Server::new(move |connection| {
            respond(connection, &format!("Content-Length: {}", bytes.len()), &bytes)
        })
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}/images/debian.img", self.at)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.at));
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Sends a response with one header. Whoever asked may be gone.
fn respond(connection: &mut TcpStream, header: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\n{header}\r\nConnection: close\r\n\r\n");
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body));
    let _ = connection.shutdown(Shutdown::Write);
}

/// Imports what `server` serves, which must fail without leaving anything.
#[track_caller]
fn failure(server: &Server, terms: &Terms) -> ImportError {
    let fixture = Fixture::new();
    let error = fixture.import_from(&Origin::Address(server.address()), terms).unwrap_err();
    assert_eq!(["packs", "manifests", "incoming"].map(|name| fixture.count(name)), [0; 3], "{error}");
    error
}

#[test]
fn an_image_may_come_from_an_address_in_any_wrapping() {
    let fixture = Fixture::new();
    let raw = debian_disk(fixture.directory.path());
    let bare = fixture.import(&raw).unwrap().name();
    let chunked = |bytes: &[u8]| {
        let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        [bytes.chunks(100_000).flat_map(chunk).collect(), b"0\r\n\r\n".to_vec()].concat()
    };
    let (bytes, packed) = (fs::read(&raw).unwrap(), fs::read(xz(&raw)).unwrap());
    let in_chunks = chunked(&packed);
    let open_ended = packed.clone();
    for server in [
        Server::of(bytes),
        Server::of(packed),
        Server::new(move |connection| respond(connection, "Transfer-Encoding: chunked", &in_chunks)),
        Server::new(move |connection| respond(connection, "X-Length: unknown", &open_ended)),
    ] {
        let imported = fixture.import_from(&Origin::Address(server.address()), &Terms::default()).unwrap();
        assert_eq!(imported.name(), bare);
        let moved = format!("Location: {}", server.address());
        let elsewhere = Server::new(move |connection| {
            let head =
                format!("HTTP/1.1 302 Found\r\n{moved}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = connection.write_all(head.as_bytes());
        });
        let imported = fixture.import_from(&Origin::Address(elsewhere.address()), &Terms::default()).unwrap();
        assert_eq!(imported.name(), bare);
    }
    assert_eq!(fixture.count("incoming"), 0);
}

#[test]
fn fetching_is_the_first_stage_and_counts_the_bytes() {
    let fixture = Fixture::new();
    let packed = fs::read(xz(&debian_disk(fixture.directory.path()))).unwrap();
    let (length, server) = (packed.len() as u64, Server::of(packed));
    let mut seen = Vec::new();
    let origin = Origin::Address(server.address());
    let mut see = |progress| seen.push(progress);
    drop(fixture.library.import(&origin, &Terms::default(), &mut see, &AtomicBool::new(false)).unwrap());
    let fetching: Vec<_> = seen.iter().take_while(|progress| progress.stage == Stage::Fetching).collect();
    assert!(fetching.is_sorted_by_key(|progress| progress.done));
    let last = fetching.last().unwrap();
    assert_eq!((last.done, last.total), (length, Some(length)));
    assert!(seen[fetching.len()..].iter().all(|progress| progress.stage != Stage::Fetching));
}

#[test]
fn the_checksum_is_of_the_file_as_it_is_given() {
    let fixture = Fixture::new();
    let packed = xz(&debian_disk(fixture.directory.path()));
    let said = String::from_utf8(run("coreutils", "sha256sum", &[packed.to_str().unwrap()])).unwrap();
    let right: Checksum = said[..64].parse().unwrap();
    let wrong: Checksum = "5".repeat(64).parse().unwrap();
    let server = Server::of(fs::read(&packed).unwrap());
    for origin in [Origin::from(Path::new(&packed)), Origin::Address(server.address())] {
        let terms = |checksum| Terms { checksum: Some(checksum), ..Terms::default() };
        let error = fixture.import_from(&origin, &terms(wrong)).unwrap_err();
        let words = format!("has the SHA-256 {right}, but {wrong} was expected; download it again");
        assert!(error.to_string().contains(&words), "{error}");
        assert_eq!(["packs", "manifests", "incoming"].map(|name| fixture.count(name)), [0; 3]);
        let imported = fixture.import_from(&origin, &terms(right)).unwrap();
        drop(imported);
        fixture.library.begin_sweep().unwrap().unwrap().finish(&[].into()).unwrap();
    }
}

#[test]
fn what_is_no_plain_http_is_refused_with_what_to_do_instead() {
    let fixture = Fixture::new();
    let words =
        "only http:// addresses are fetched here; download it first, as by `curl -LO`, and add the file";
    for address in ["https://downloads.raspberrypi.org/os.img.xz", "ftp://server/os.img"] {
        let error = fixture.import_from(&address.parse().unwrap(), &Terms::default()).unwrap_err();
        assert_eq!(said(&error), format!("{address} cannot be fetched: {words}"));
    }
    let secure_server = Server::of(Vec::new());
    let secure = secure_server.address().replace("http:", "https:");
    let moved = Server::new(move |connection| {
        let head = format!("HTTP/1.1 301 Moved\r\nLocation: {secure}\r\nContent-Length: 0\r\n\r\n");
        let _ = connection.write_all(head.as_bytes());
    });
    let error = failure(&moved, &Terms::default());
    assert!(said(&error).ends_with(words), "{}", said(&error));
}

#[test]
fn a_server_that_fails_is_named_with_what_it_did() {
    let status = Server::new(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone");
    });
    let error = failure(&status, &Terms::default());
    assert!(
        said(&error).ends_with("the server answers with status 404; check the address"),
        "{}",
        said(&error)
    );

    for header in ["Content-Length: 5000000", "Transfer-Encoding: chunked"] {
        let cut = Server::new(move |connection| {
            let body = if header.starts_with('C') {
                vec![7; 1_234_567]
            } else {
                [b"12d687\r\n", &[7; 1_000_000][..]].concat()
            };
            respond(connection, header, &body);
        });
        let error = failure(&cut, &Terms::default());
        let ImportError::Fetch { source: FetchError::CutOff { received, expected }, .. } = &error else {
            panic!("{header}: {}", said(&error))
        };
        let right = if header.starts_with('C') { (1_234_567, Some(5_000_000)) } else { (1_000_000, None) };
        assert_eq!((*received, *expected), right, "{header}");
    }

    let silent = Server::new(|connection| drop(connection.shutdown(Shutdown::Both)));
    assert!(matches!(failure(&silent, &Terms::default()), ImportError::Fetch { .. }));
    let nobody = Origin::Address("http://127.0.0.1:9/".into());
    let error = Fixture::new().import_from(&nobody, &Terms::default()).unwrap_err();
    assert!(matches!(error, ImportError::Fetch { source: FetchError::Failed(_), .. }), "{error}");
    let page = Server::of(b"<!DOCTYPE html><html>login</html>".to_vec());
    assert!(said(&failure(&page, &Terms::default())).contains("it is a web page; check the address"));
}

#[test]
fn a_file_that_is_longer_than_any_image_is_not_fetched_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { image_bytes: 3 << 20, free_bytes: 0 };
    let library = Library::open(&directory.path().join("library"), limits).unwrap();
    let endless = |header: &'static str| {
        Server::new(move |connection| {
            let head = format!("HTTP/1.1 200 OK\r\n{header}\r\nConnection: close\r\n\r\n");
            let _ = connection.write_all(head.as_bytes());
            while connection.write_all(&[1; 65536]).is_ok() {}
        })
    };
    for server in [endless("X-Length: unknown"), endless("Content-Length: 9000000000000")] {
        let origin = Origin::Address(server.address());
        let import = library.import(&origin, &Terms::default(), &mut |_| {}, &AtomicBool::new(false));
        let error = import.unwrap_err();
        assert!(matches!(error, ImportError::TooLong { limit: 3_145_728, .. }), "{error}");
    }
}

#[test]
fn a_stop_is_heard_while_the_server_says_nothing() {
    let fixture = Fixture::new();
    let image = fs::read(debian_disk(fixture.directory.path())).unwrap();
    let length = image.len();
    // Stalls in the middle until the other side hangs up.
    let stalled = Server::new(move |connection| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&image[..3 << 20]));
        let _ = BufReader::new(connection).lines().count();
    });
    let stop = AtomicBool::new(false);
    let mut calls_without_progress = 0;
    let mut progress = |seen: piseduce_coordinator::image::ImportProgress| {
        calls_without_progress += usize::from(seen.done == 3 << 20);
        stop.store(calls_without_progress >= 3, Ordering::Relaxed);
    };
    let origin = Origin::Address(stalled.address());
    let error = fixture.library.import(&origin, &Terms::default(), &mut progress, &stop).unwrap_err();
    assert!(matches!(error, ImportError::Stopped { .. }), "{error}");
    assert_eq!(fixture.count("incoming"), 0);
}
