//! A tiny head node: serves what it is given over HTTP/1.1 with kept connections, and can be told to lie,
//! to be slow, to hang up, and to keep what is posted to it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// What is served at one path.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) body: Vec<u8>,
    /// Whether the body is a zstd frame; it is sent to those that accept it, others get it unpacked.
    pub(crate) is_zstd: bool,
}

/// A request that was posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posted {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Default)]
struct State {
    served: HashMap<String, Served>,
    /// So many more answers to a path have one wrong byte.
    lies: HashMap<String, u32>,
    /// So many more requests get this status.
    statuses: Vec<u16>,
    /// A connection is closed after so many requests.
    requests_per_connection: Option<u32>,
    /// Every answer waits so long.
    delay: Duration,
    requests: Vec<String>,
    posted: Vec<Posted>,
    /// zstd is never sent.
    only_identity: bool,
    /// The connection is closed in the middle of so many more answers.
    cuts: u32,
}

/// The server.
pub(crate) struct Head {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

impl Head {
    /// Listens on a port of its own; ends with the test.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    // A client that goes away is no matter.
                    let _ = converse(stream, &state);
                });
            }
        });
        Head { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn serve(&self, path: String, body: Vec<u8>, is_zstd: bool) {
        self.state().served.insert(path, Served { body, is_zstd });
    }

    pub(crate) fn withdraw(&self, path: &str) {
        self.state().served.remove(path);
    }

    /// The next `times` answers to `path` have one wrong byte.
    pub(crate) fn lie(&self, path: String, times: u32) {
        self.state().lies.insert(path, times);
    }

    /// The next requests are answered with these statuses.
    pub(crate) fn answer_next(&self, statuses: &[u16]) {
        self.state().statuses = statuses.to_vec();
    }

    pub(crate) fn close_after(&self, requests: u32) {
        self.state().requests_per_connection = Some(requests);
    }

    pub(crate) fn cut_next(&self, answers: u32) {
        self.state().cuts = answers;
    }

    pub(crate) fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    pub(crate) fn only_identity(&self) {
        self.state().only_identity = true;
    }

    /// The paths that were asked for.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// What was posted.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.state().posted.clone()
    }
}

fn converse(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    for count in 1.. {
        let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
        let (answer, delay, is_last, is_cut) = {
            let mut state = state.lock().unwrap();
            let is_last = state.requests_per_connection.is_some_and(|limit| count >= limit);
            let answer = state.answer(&request);
            let is_cut = state.cuts > 0;
            state.cuts = state.cuts.saturating_sub(1);
            (answer, state.delay, is_last || request.closes, is_cut)
        };
        crate::wait::pause(delay);
        let (status, body, is_zstd) = answer;
        let encoding = if is_zstd { "Content-Encoding: zstd\r\n" } else { "" };
        let header = format!("HTTP/1.1 {status} Fine\r\n{encoding}Content-Length: {}\r\n\r\n", body.len());
        writer.write_all(header.as_bytes())?;
        if is_cut {
            writer.write_all(&body[..body.len() / 2])?;
            return Ok(());
        }
        writer.write_all(&body)?;
        if is_last {
            return Ok(());
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    accepts_zstd: bool,
    closes: bool,
    body: Vec<u8>,
}

impl Request {
    fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(path), version) = (words.next(), words.next(), words.next()) else {
            return Ok(None);
        };
        let closes = version.as_deref() == Some("HTTP/1.0");
        let mut request = Request { method, path, accepts_zstd: false, closes, body: vec![] };
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            match header.split_once(':').map(|(name, value)| (name, value.trim())) {
                None => break,
                Some(("accept-encoding", value)) => request.accepts_zstd = value == "zstd",
                Some(("content-length", value)) => request.body = vec![0; value.parse().unwrap_or(0)],
                Some(("connection", "close")) => request.closes = true,
                Some(_) => {}
            }
        }
        reader.read_exact(&mut request.body)?;
        Ok(Some(request))
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> (u16, Vec<u8>, bool) {
        if !self.statuses.is_empty() {
            return (self.statuses.remove(0), vec![], false);
        }
        if request.method == "POST" {
            self.posted.push(Posted { path: request.path.clone(), body: request.body.clone() });
            return (204, vec![], false);
        }
        self.requests.push(request.path.clone());
        let Some(served) = self.served.get(&request.path) else { return (404, vec![], false) };
        let as_zstd = served.is_zstd && request.accepts_zstd && !self.only_identity;
        let mut body = match served.is_zstd && !as_zstd {
            true => zstd::bulk::decompress(&served.body, 1 << 20).unwrap(),
            false => served.body.clone(),
        };
        if let Some(times) = self.lies.get_mut(&request.path).filter(|times| **times > 0) {
            *times -= 1;
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        (200, body, as_zstd)
    }
}
