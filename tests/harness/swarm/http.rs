//! HTTP as a board speaks it to its head: one request a connection, from the board's own address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A connection from the address of a board.
pub(super) async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// The status and the body of an answer.
pub(super) async fn ask(
    from: Ipv4Addr,
    head: SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = connect(from, head).await?;
    // By version 1.0 the answer ends with the connection.
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[request.as_bytes(), body].concat()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the head's answer is no HTTP");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or_else(wrong)?;
    let header = std::str::from_utf8(&answer[..end]).map_err(|_| wrong())?;
    let status = header.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(wrong)?;
    Ok((status, answer.split_off(end + 4)))
}
