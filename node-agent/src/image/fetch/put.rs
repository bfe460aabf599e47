//! Sends files to the head node, with the proof that they come from this node. What stalls or fails is sent again from its
//! beginning until nothing went for a while.

use super::{Backoff, FetchError, Head, PAUSE_FIRST_MS, PAUSE_LONGEST_MS};
use crate::clock;
use piseduce_protocol::id::Hash;
use piseduce_protocol::path::{CONTENT_HEADER, PROOF_HEADER};
use std::io::Read;
use std::time::Duration;

/// What is sent, and who says so.
#[derive(Clone, Copy, Debug)]
pub struct Upload {
    /// Its BLAKE3.
    pub content: Hash,
    /// Its size.
    pub bytes: u64,
    /// That it comes from this node.
    pub proof: Hash,
}

impl Head {
    /// Sends the bytes that each call of `open` gives anew to `path`.
    ///
    /// # Errors
    /// [`FetchError`]; what `open` returns comes back as it is.
    pub fn put<R: Read, E: From<FetchError>>(
        &self,
        path: &str,
        upload: Upload,
        mut open: impl FnMut() -> Result<R, E>,
    ) -> Result<(), E> {
        let url = self.url(path);
        let mut pauses =
            Backoff::new(Duration::from_millis(PAUSE_FIRST_MS), Duration::from_millis(PAUSE_LONGEST_MS));
        let began = clock::now();
        loop {
            self.cancel.check().map_err(FetchError::from)?;
            let mut content = open()?.take(upload.bytes);
            let request = self.http.put(&url).header(PROOF_HEADER, upload.proof.to_string());
            let request = request.header(CONTENT_HEADER, upload.content.to_string());
            let request = request.header("content-length", upload.bytes.to_string());
            let source = match request.send(ureq::SendBody::from_reader(&mut content)) {
                Ok(response) => match response.status().as_u16() {
                    200..300 => return Ok(()),
                    // Too busy, or a restart behind a proxy: these pass.
                    status @ (408 | 429 | 500..) => ureq::Error::StatusCode(status),
                    status => return Err(FetchError::Refused { url, status }.into()),
                },
                Err(error) => error,
            };
            self.cancel.check().map_err(FetchError::from)?;
            if clock::now().duration_since(began) >= self.patience {
                let seconds = self.patience.as_secs();
                return Err(FetchError::Unreachable { url, seconds, source: Box::new(source) }.into());
            }
            tracing::debug!(%url, error = %source, "sending again");
            self.cancel.wait(pauses.pause()).map_err(FetchError::from)?;
        }
    }
}
