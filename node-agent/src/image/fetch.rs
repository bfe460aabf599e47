//! Fetches manifests, chunks and bundles from the head node over plain HTTP, and believes hashes only.
//!
//! Connections are kept and made anew as the head closes them; what stalls or fails is tried again until
//! nothing has come for a while. It knows paths and hashes, and nothing about cards.

mod put;

pub use put::Upload;

use super::Source;
use crate::backoff::Backoff;
use crate::cancel::{Cancel, Cancelled};
use crate::clock;
use piseduce_protocol::id::{DeploymentId, Hash, Run};
use piseduce_protocol::manifest::{CHUNK_BYTES, Manifest, ManifestError};
use piseduce_protocol::path;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// How long the agent tries to get a first or further byte, in seconds.
pub const PATIENCE_SECONDS: u64 = 60;

/// A connection that takes longer is given up, in seconds. It cannot be interrupted, so this also bounds
/// how long a stop may take.
const CONNECT_SECONDS: u64 = 2;

/// A connection that brings nothing for so many seconds is given up.
const STALL_SECONDS: u64 = 10;

/// Pauses between tries, in milliseconds: at most the first at the beginning, the longest in the end.
const PAUSE_FIRST_MS: u64 = 100;
const PAUSE_LONGEST_MS: u64 = 2000;

/// So many times bytes with a wrong hash are fetched before that is believed to be no accident.
const HASH_TRIES: u32 = 3;

/// A larger manifest is refused; one of a 300 GB image fits.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// A larger bundle is refused.
const BUNDLE_BYTES_MAX: u64 = 8 << 20;

/// A zstd frame of a chunk that does not compress is a little longer than the chunk.
const FRAME_BYTES_MAX: u64 = CHUNK_BYTES as u64 + 64 * 1024;

/// The clock is read once for so many bytes.
const READ_BYTES: u64 = 64 * 1024;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The work was stopped meanwhile.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Nothing came for the whole patience.
    #[error("failed to fetch {url}: nothing came for {seconds} s")]
    Unreachable {
        /// What was fetched.
        url: String,
        /// How long nothing came.
        seconds: u64,
        /// What the last try ended with.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The head does not have it, or does not give or take it.
    #[error("the head node answers {status} for {url}")]
    Refused {
        /// What was fetched.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// More bytes than such a thing can have.
    #[error("failed to fetch {url}: it is longer than {limit} bytes")]
    TooLong {
        /// What was fetched.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes do not have the hash that they were asked for by.
    #[error("{url} came wrong over the network {HASH_TRIES} times: it does not have its hash")]
    WrongHash {
        /// What was fetched.
        url: String,
    },
    /// The right bytes, but no manifest that this version can read.
    #[error("manifest {name} cannot be used")]
    Manifest {
        /// The manifest.
        name: Hash,
        /// Why.
        #[source]
        source: ManifestError,
    },
}

/// The head node's listener for nodes.
#[derive(Debug)]
pub struct Head {
    http: ureq::Agent,
    base: String,
    cancel: Cancel,
    patience: Duration,
}

struct Answer {
    bytes: Vec<u8>,
    is_zstd: bool,
}

/// How one try ended without an answer.
enum Failure {
    /// It may go better next time.
    Passing(ureq::Error),
    Final(FetchError),
}

impl Head {
    /// The head at `address` (host and TCP port). It is given up when nothing came for `patience`, and
    /// at once when `cancel` is thrown, even in the middle of a read.
    pub fn new(address: &str, patience: Duration, cancel: &Cancel) -> Self {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(CONNECT_SECONDS)))
            .timeout_recv_response(Some(Duration::from_secs(STALL_SECONDS)))
            .timeout_per_read(Some(Duration::from_secs(STALL_SECONDS)));
        let http = config.build().new_agent();
        let interrupted = http.clone();
        cancel.on_cancel(move || interrupted.shutdown());
        Head { http, base: format!("http://{address}"), cancel: cancel.clone(), patience }
    }

    /// The manifest of this name.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn manifest(&self, name: Hash) -> Result<Manifest, FetchError> {
        let bytes = self.named(&path::manifest(name), name, MANIFEST_BYTES_MAX)?;
        Manifest::decode(&bytes).map_err(|source| FetchError::Manifest { name, source })
    }

    /// The locked configuration bundle of a run, which must have the name `name`.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn bundle(&self, deployment: DeploymentId, run: Run, name: Hash) -> Result<Vec<u8>, FetchError> {
        self.named(&path::bundle(deployment, run), name, BUNDLE_BYTES_MAX)
    }

    /// Bytes that are sent as they are and must have the hash `name`.
    fn named(&self, path: &str, name: Hash, limit: u64) -> Result<Vec<u8>, FetchError> {
        for _ in 0..HASH_TRIES {
            let answer = self.get(path, limit, false)?;
            if Hash::of(&answer.bytes) == name {
                return Ok(answer.bytes);
            }
        }
        Err(FetchError::WrongHash { url: self.url(path) })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Fetches until an answer is complete or nothing came for the whole patience.
    fn get(&self, path: &str, limit: u64, as_zstd: bool) -> Result<Answer, FetchError> {
        let url = self.url(path);
        let mut pauses =
            Backoff::new(Duration::from_millis(PAUSE_FIRST_MS), Duration::from_millis(PAUSE_LONGEST_MS));
        let mut last_byte = clock::now();
        loop {
            self.cancel.check()?;
            let source = match self.try_once(&url, limit, as_zstd, &mut last_byte) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(source)) => source,
            };
            self.cancel.check()?;
            if clock::now().duration_since(last_byte) >= self.patience {
                let seconds = self.patience.as_secs();
                return Err(FetchError::Unreachable { url, seconds, source: Box::new(source) });
            }
            tracing::debug!(%url, error = %source, "fetching again");
            self.cancel.wait(pauses.pause())?;
        }
    }

    fn try_once(
        &self,
        url: &str,
        limit: u64,
        as_zstd: bool,
        last_byte: &mut Instant,
    ) -> Result<Answer, Failure> {
        // ureq decodes nothing that was not compiled in; an encoding is asked for by us alone.
        let encoding = if as_zstd { "zstd" } else { "identity" };
        let request = self.http.get(url).header("accept-encoding", encoding);
        let mut response = request.call().map_err(Failure::Passing)?;
        let status = response.status().as_u16();
        match status {
            200 => {}
            // Too busy, or a restart behind a proxy: these pass.
            408 | 429 | 500.. => return Err(Failure::Passing(ureq::Error::StatusCode(status))),
            _ => return Err(Failure::Final(FetchError::Refused { url: url.into(), status })),
        }
        let is_zstd = response.headers().get("content-encoding").is_some_and(|value| value == "zstd");
        let mut bytes = Vec::with_capacity(response.body().content_length().unwrap_or(0).min(limit) as usize);
        let mut reader = response.body_mut().as_reader();
        loop {
            let before = bytes.len();
            match reader.by_ref().take(READ_BYTES).read_to_end(&mut bytes) {
                Ok(0) => return Ok(Answer { bytes, is_zstd }),
                Ok(_) if bytes.len() as u64 > limit => {
                    return Err(Failure::Final(FetchError::TooLong { url: url.into(), limit }));
                }
                Ok(_) => *last_byte = clock::now(),
                Err(error) => {
                    if bytes.len() > before {
                        *last_byte = clock::now();
                    }
                    return Err(Failure::Passing(error.into()));
                }
            }
        }
    }
}

impl Source for Head {
    fn chunk(&self, name: Hash, raw: &mut [u8]) -> Result<(), FetchError> {
        let path = path::chunk(name);
        for _ in 0..HASH_TRIES {
            let answer = self.get(&path, FRAME_BYTES_MAX, true)?;
            let unpacked = unpack(&answer, raw);
            if unpacked.is_ok() && Hash::of(raw) == name {
                return Ok(());
            }
            tracing::warn!(chunk = %name, "a chunk came wrong over the network");
        }
        Err(FetchError::WrongHash { url: self.url(&path) })
    }
}

/// Fills `raw` from the answer, which must have exactly its length.
fn unpack(answer: &Answer, raw: &mut [u8]) -> io::Result<()> {
    let length = raw.len();
    let unpacked = match answer.is_zstd {
        true => zstd::bulk::decompress_to_buffer(&answer.bytes, raw)?,
        false => {
            raw.get_mut(..answer.bytes.len())
                .ok_or(io::ErrorKind::InvalidData)?
                .copy_from_slice(&answer.bytes);
            answer.bytes.len()
        }
    };
    if unpacked == length { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
