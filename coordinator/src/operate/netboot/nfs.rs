//! Asks the NFS server of this head what a node would find there: three questions of NFS version 4.0 over TCP, which change nothing.
//! Sources: RFC 5531 (RPC), RFC 7530 and 7531 (NFS), RFC 4506 (how numbers and texts are written).

use crate::domain::network::Network;
use crate::operate::check::Check;
use anyhow::{Context as _, bail, ensure};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, connect, socket};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

const PORT: u16 = 2049;
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Servers listen to questions from here only, as only root can ask them.
const PRIVILEGED: std::ops::Range<u16> = 700..1000;
/// An answer to these questions is short.
const ANSWER_BYTES_MAX: u32 = 64 << 10;

const CALL: u32 = 0;
const RPC_VERSION: u32 = 2;
const NFS: u32 = 100_003;
const NFS_VERSION: u32 = 4;
const COMPOUND: u32 = 1;
const AUTH_SYS: u32 = 1;
const OP_ACCESS: u32 = 3;
const OP_LOOKUP: u32 = 15;
const OP_PUTROOTFH: u32 = 24;
/// Read, look up, change, extend, delete.
const ACCESS_ASKED: u32 = 0x1f;
const ACCESS_READ: u32 = 0x01;
const ACCESS_CHANGES: u32 = 0x04 | 0x08 | 0x10;

/// What a node may do in the exported directory.
#[derive(Debug, PartialEq, Eq)]
enum Access {
    /// Read.
    ReadOnly,
    /// Read and change.
    Writable,
    /// Nothing: it is not exported, or must not be read; the server's number for that.
    Refused(u32),
}

/// Whether nodes on `network` can read `directory`, and not change it.
pub(super) fn check(network: &Network, directory: &Path) -> Check {
    let (name, shown) = ("nfs", directory.display());
    let advice = "`piseduce netboot render`, then what it says; `ls -ld` must show that everybody may enter the directory and all above it";
    match ask(network.head, directory) {
        Ok(Access::ReadOnly) => Check::ok(name, format!("nodes on {} can read {shown}", network.interface)),
        Ok(Access::Writable) => Check::fail(
            name,
            format!("{shown} is exported for writing: a node's root could change what others boot"),
            "remove the other export of it, which is not piseduce's",
        ),
        Ok(Access::Refused(status)) => Check::fail(
            name,
            format!(
                "the NFS server does not let nodes on {} read {shown} (status {status})",
                network.interface
            ),
            advice,
        ),
        Err(error) => Check::fail(
            name,
            format!("no NFS server answers at {}: {error:#}", network.head),
            "install nfs-kernel-server, or nfs-ganesha and nfs-ganesha-vfs; `systemctl status` shows whether it runs",
        ),
    }
}

/// Asks the server at `head`, from that address, which is one of its network.
fn ask(head: Ipv4Addr, directory: &Path) -> anyhow::Result<Access> {
    let mut stream = connected(head)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let transaction = std::process::id();
    let names: Vec<&str> = directory.iter().skip(1).filter_map(|name| name.to_str()).collect();
    let call = call(transaction, &names);
    let length = u32::try_from(call.len()).expect("a path is short");
    // The highest bit: the last piece.
    stream.write_all(&(length | 1 << 31).to_be_bytes())?;
    stream.write_all(&call)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).context("it closed the connection")?;
    let length = u32::from_be_bytes(length) & !(1 << 31);
    ensure!(length <= ANSWER_BYTES_MAX, "its answer is {length} bytes long");
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    understand(&answer, transaction)
}

fn connected(head: Ipv4Addr) -> anyhow::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    // Without the right to such a port the question comes from another one, which most servers refuse.
    let _ = PRIVILEGED.rev().find(|port| bind(&socket, &SocketAddrV4::new(head, *port)).is_ok());
    connect(&socket, &SocketAddrV4::new(head, PORT))?;
    Ok(TcpStream::from(socket))
}

/// Root asks from the root of all exports down the path, and then what it may do there.
fn call(transaction: u32, names: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut number = |number: u32| bytes.extend(number.to_be_bytes());
    [transaction, CALL, RPC_VERSION, NFS, NFS_VERSION, COMPOUND].into_iter().for_each(&mut number);
    // Who asks: stamp, no machine's name, user 0, group 0, no other groups; then nothing to verify.
    [AUTH_SYS, 20, 0, 0, 0, 0, 0, 0, 0].into_iter().for_each(&mut number);
    // No tag, minor version 0.
    let operations = u32::try_from(names.len()).expect("a path is short") + 2;
    [0, 0, operations, OP_PUTROOTFH].into_iter().for_each(&mut number);
    for name in names {
        bytes.extend(OP_LOOKUP.to_be_bytes());
        bytes.extend(u32::try_from(name.len()).expect("a name is short").to_be_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes.extend(OP_ACCESS.to_be_bytes());
    bytes.extend(ACCESS_ASKED.to_be_bytes());
    bytes
}

/// What the answer says: its end is that of the last question, and a refusal ends it early.
fn understand(answer: &[u8], transaction: u32) -> anyhow::Result<Access> {
    let word = |at: usize| {
        let bytes = answer.get(4 * at..4 * at + 4).context("its answer is too short")?;
        Ok::<_, anyhow::Error>(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    };
    // Reply, accepted, nothing to verify, carried out; then the status of all.
    let is_reply = word(0)? == transaction && word(1)? == 1;
    ensure!(is_reply, "what answers is no NFS server");
    if word(2)? != 0 {
        bail!("it refuses to be asked by root");
    }
    let verifier = word(4)? as usize / 4;
    ensure!(word(5 + verifier)? == 0, "it does not speak NFS version 4");
    match word(6 + verifier)? {
        0 => {}
        status => return Ok(Access::Refused(status)),
    }
    let words = answer.len() / 4;
    let granted = word(words.saturating_sub(1))?;
    Ok(match (granted & ACCESS_READ != 0, granted & ACCESS_CHANGES != 0) {
        (_, true) => Access::Writable,
        (true, false) => Access::ReadOnly,
        // NFS4ERR_ACCESS
        (false, false) => Access::Refused(13),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(words: &[u32]) -> anyhow::Result<Access> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        understand(&bytes, 7)
    }

    #[test]
    fn answers_are_understood() {
        let granted = |bits| answer(&[7, 1, 0, 0, 0, 0, 0, 0, 2, 24, 0, 3, 0, 0x1f, bits]).unwrap();
        assert_eq!(granted(0x03), Access::ReadOnly);
        assert_eq!(granted(0x1f), Access::Writable);
        assert_eq!(granted(0), Access::Refused(13));
        assert_eq!(answer(&[7, 1, 0, 0, 0, 0, 2, 0, 2]).unwrap(), Access::Refused(2));
        for words in [&[8, 1, 0, 0, 0, 0, 0][..], &[7, 1, 1, 0, 0, 0, 0], &[7, 1, 0, 0, 0, 2], &[7, 1]] {
            assert!(answer(words).is_err(), "{words:?}");
        }
    }
}
