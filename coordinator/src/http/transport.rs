//! What hyper reads from and writes to: a socket and bodies that tell their connection how they get on.

use super::connections::{Answering, Connection};
use super::limits::Limits;
use crate::clock::{self, Instant};
use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// A socket whose connection knows what went through it.
pub(super) struct Watched {
    pub(super) stream: TcpStream,
    pub(super) connection: Arc<Connection>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.connection.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl Watched {
    fn told(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.connection.blocked(),
            Poll::Ready(Ok(_)) => self.connection.sent(),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.told(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.told(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request came too slowly")]
pub(super) struct TooSlow;

/// Why a body ended.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request, which must keep coming.
pub(super) struct RequestBody {
    body: Incoming,
    limits: Limits,
    bytes: u64,
    /// How long all of it was waited for, at most.
    waited: Duration,
    /// Runs while a piece is awaited.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, limits: Limits) -> Self {
        RequestBody { body, limits, bytes: 0, waited: Duration::ZERO, timer: None }
    }

    /// How long the next piece may take: a time of its own, and what the slowest rate leaves.
    fn patience(&self) -> Duration {
        let in_all = Duration::from_secs(self.bytes / self.limits.body_rate_min);
        (self.limits.body_piece_time + in_all).saturating_sub(self.waited).min(self.limits.body_piece_time)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                if let Some((began, _)) = self.timer.take() {
                    self.waited += clock::now().since(began);
                }
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                self.bytes += data.map_or(0, |data| data.len() as u64);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let patience = self.patience();
                let began = clock::now();
                let (_, timer) =
                    self.timer.get_or_insert_with(|| (began, Box::pin(tokio::time::sleep(patience))));
                ready!(timer.as_mut().poll(context));
                Poll::Ready(Some(Err(TooSlow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer; its connection is at work until this is dropped.
pub(super) struct ResponseBody {
    body: axum::body::Body,
    _answering: Answering,
}

impl ResponseBody {
    pub(super) fn new(body: axum::body::Body, answering: Answering) -> Self {
        if body.size_hint().exact().is_none() {
            answering.connection().lasts();
        }
        ResponseBody { body, _answering: answering }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
