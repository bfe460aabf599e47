//! Fetches an image file from an http address into a file of the import, and adds up its checksum on the way.
//!
//! One thread talks to the server, which may say nothing for long; the calling thread writes, watches and
//! interrupts it. Nothing is resumed: what ends early is fetched again by whoever wants it. There is no TLS in
//! this program, so https addresses are refused with what to do instead. Next: `source.rs`.

use super::error::{FetchError, ImportError, LibraryError};
use super::origin::{Checksum, Origin, Summing};
use super::watch::{ImportProgress, Stage, Watch};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// A connection that takes longer is given up. It cannot be interrupted, so this also bounds a stop.
const CONNECT_SECONDS: u64 = 10;
/// A connection that brings nothing for so long is given up.
const STALL_SECONDS: u64 = 60;
/// A wish to stop is heard after this time at the latest.
const LISTEN: Duration = Duration::from_millis(200);
/// Bytes are handed over in pieces of this length, of which so many may wait to be written.
const PIECE_BYTES: u64 = 1 << 20;
const PIECES_WAITING: usize = 4;

/// What came from the server.
enum Came {
    /// How long the file is, if the server says so.
    Length(Option<u64>),
    /// The next bytes of it.
    Piece(Vec<u8>),
}

/// Fetches what is at `address` into the new file `into`, at most `bytes_max` bytes; gives its checksum.
pub(super) fn fetch(
    address: &str,
    into: &Path,
    bytes_max: u64,
    watch: &mut Watch<'_>,
) -> Result<Checksum, ImportError> {
    if !address.starts_with("http://") {
        return Err(ImportError::Fetch { address: address.to_owned(), source: FetchError::Scheme });
    }
    let http = agent();
    let (send, receive) = sync_channel(PIECES_WAITING);
    thread::scope(|scope| {
        let server = http.clone();
        scope.spawn(move || talk(&server, address, &send));
        let fetched = write_down(address, &receive, into, bytes_max, watch);
        // Ends a read that waits for the server; the thread then finds that nobody listens.
        drop(receive);
        http.shutdown();
        fetched
    })
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(CONNECT_SECONDS)))
        .timeout_recv_response(Some(Duration::from_secs(STALL_SECONDS)))
        .timeout_per_read(Some(Duration::from_secs(STALL_SECONDS)));
    config.build().new_agent()
}

/// The thread that talks: hands over what the server says until it ends or nobody listens.
fn talk(http: &ureq::Agent, address: &str, send: &SyncSender<Result<Came, FetchError>>) {
    let mut body = match ask(http, address) {
        Ok(body) => body,
        Err(error) => return drop(send.send(Err(error))),
    };
    let expected = body.content_length();
    let mut listened = send.send(Ok(Came::Length(expected)));
    let mut reader = body.as_reader();
    let mut received = 0;
    while listened.is_ok() {
        let mut piece = Vec::new();
        let result = reader.by_ref().take(PIECE_BYTES).read_to_end(&mut piece);
        received += piece.len() as u64;
        listened = match result {
            Ok(0) if expected.is_some_and(|bytes| received < bytes) => {
                return drop(send.send(Err(FetchError::CutOff { received, expected })));
            }
            Ok(0) => return,
            Ok(_) => send.send(Ok(Came::Piece(piece))),
            Err(error) => return drop(send.send(Err(interrupted(error, received, expected)))),
        };
    }
}

fn ask(http: &ureq::Agent, address: &str) -> Result<ureq::Body, FetchError> {
    let response = http.get(address).call().map_err(|error| match error {
        // Where the address leads to.
        ureq::Error::TlsRequired => FetchError::Scheme,
        other => FetchError::Failed(Box::new(other)),
    })?;
    match response.status().as_u16() {
        200 => Ok(response.into_body()),
        status => Err(FetchError::Status { status }),
    }
}

/// Why no more came.
fn interrupted(error: io::Error, received: u64, expected: Option<u64>) -> FetchError {
    match ureq::Error::from(error) {
        ureq::Error::Timeout(_) => FetchError::Stalled { received, seconds: STALL_SECONDS },
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            FetchError::CutOff { received, expected }
        }
        other => FetchError::Failed(Box::new(other)),
    }
}

fn write_down(
    address: &str,
    receive: &Receiver<Result<Came, FetchError>>,
    into: &Path,
    bytes_max: u64,
    watch: &mut Watch<'_>,
) -> Result<Checksum, ImportError> {
    let too_long = || ImportError::TooLong { origin: Origin::Address(address.to_owned()), limit: bytes_max };
    let mut file = File::create_new(into).map_err(LibraryError::io("create", into))?;
    let mut sum = Summing::default();
    let (mut done, mut total) = (0, None);
    loop {
        let came = match receive.recv_timeout(LISTEN) {
            Ok(came) => came.map_err(|source| ImportError::Fetch { address: address.to_owned(), source })?,
            Err(RecvTimeoutError::Timeout) => {
                watch.report(ImportProgress { stage: Stage::Fetching, done, total })?;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(sum.finish()),
        };
        match came {
            Came::Length(length) => {
                total = length;
                // Said before a byte is fetched for nothing.
                if total > Some(bytes_max) {
                    return Err(too_long());
                }
                watch.room_for(length.unwrap_or(0))?;
            }
            Came::Piece(piece) if done + piece.len() as u64 > bytes_max => return Err(too_long()),
            Came::Piece(piece) => {
                watch.room_for(piece.len() as u64)?;
                file.write_all(&piece).map_err(LibraryError::io("write", into))?;
                sum.add(&piece);
                done += piece.len() as u64;
            }
        }
        watch.report(ImportProgress { stage: Stage::Fetching, done, total })?;
    }
}
