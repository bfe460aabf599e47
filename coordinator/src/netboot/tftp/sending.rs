//! Carries a transfer out: blocks from its content to its socket, and back what the client says.

use super::content::{Content, Reader};
use super::packet::{self, Refusal, Reply};
use super::seats::Control;
use super::transfer::{Step, Terms, Transfer};
use crate::clock;
use std::io;
use std::sync::atomic::Ordering;
use tokio::net::UdpSocket;

/// The longest packet of a client that is looked at whole.
const REPLY_BYTES_MAX: usize = 128;

/// How a transfer ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client has everything.
    Whole,
    /// The client wants no more of it, is gone, or asked something else.
    Left,
}

/// Sends `content` until the client has it or wants it no more.
///
/// # Errors
/// When the content cannot be read. The client is told.
pub(super) async fn send(
    socket: &UdpSocket,
    terms: Terms,
    content: Content,
    control: &Control,
) -> io::Result<End> {
    let mut transfer = Transfer::new(terms, content.bytes(), clock::now());
    let mut reader = Reader::new(content);
    let mut buffer = [0; REPLY_BYTES_MAX];
    let mut step = transfer.repeat(clock::now());
    loop {
        match step {
            Step::Agree => put(socket, &packet::agreed(&transfer.terms().agreed)).await,
            Step::Send(blocks) => {
                let block_bytes = transfer.terms().block_bytes;
                for block in blocks {
                    let read = reader.read((block - 1) * block_bytes, block_bytes).await;
                    match read {
                        // Numbers go round on the wire.
                        Ok(bytes) => put(socket, &packet::data(block as u16, bytes)).await,
                        Err(error) => {
                            put(socket, &Refusal::Unreadable.bytes()).await;
                            return Err(error);
                        }
                    }
                }
            }
            Step::Wait => {}
            Step::Whole => return Ok(End::Whole),
            Step::Left => return Ok(End::Left),
        }
        step = tokio::select! {
            received = socket.recv(&mut buffer) => match received {
                Ok(count) => match Reply::parse(&buffer[..count]) {
                    Some(Reply::Acknowledged(number)) => transfer.acknowledge(number, clock::now()),
                    Some(Reply::Ended) => return Ok(left(&transfer)),
                    None => Step::Wait,
                },
                // Its port is closed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(left(&transfer)),
                // Such as a cable that is out: what got lost is sent again in time.
                Err(_) => Step::Wait,
            },
            () = clock::sleep_until(transfer.wake_at()) => transfer.tick(clock::now()),
            () = control.repeat.notified() => transfer.repeat(clock::now()),
            () = control.end.notified() => return Ok(left(&transfer)),
        };
        if transfer.is_confirmed() {
            control.is_confirmed.store(true, Ordering::Relaxed);
        }
    }
}

/// A client that goes on without its last word has the file.
fn left(transfer: &Transfer) -> End {
    if transfer.is_whole_but_for_a_word() { End::Whole } else { End::Left }
}

/// Sends a packet. What cannot be sent is as good as lost on the way.
async fn put(socket: &UdpSocket, packet: &[u8]) {
    let _ = socket.send(packet).await;
}
