//! Keeps the TFTP server from answering some boards, as if the head were away: the kernel drops what they ask before anybody sees
//! it. So it can be tried what a board does then.

use crate::clock::{self, Instant};
use socket2::{SockFilter, SockRef};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A filter's jumps are short.
const SILENT_MAX: usize = 100;

// The packet filter of Linux. Source: Documentation/networking/filter.rst of the kernel.
const LOAD_WORD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where the source address of an IPv4 packet is: 12 bytes behind the network header, which is at this negative offset.
const SOURCE: u32 = 0xfff0_0000 + 12;
const ALL: u32 = u32::MAX;

/// Who is not answered, and until when.
#[derive(Clone, Debug)]
pub struct Silence {
    sockets: Arc<Vec<UdpSocket>>,
    until: Arc<Mutex<BTreeMap<Ipv4Addr, Instant>>>,
}

impl Silence {
    /// Nobody at these sockets yet.
    pub(super) fn of(sockets: Vec<UdpSocket>) -> Silence {
        Silence { sockets: Arc::new(sockets), until: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ipv4Addr, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does not answer `address` for this long; for no time: from now on again. Needs a tokio runtime, which ends it in time.
    ///
    /// # Errors
    /// When the kernel refuses, or too many are silent already.
    pub fn keep(&self, address: Ipv4Addr, time: Duration) -> io::Result<()> {
        let end = clock::now() + time;
        {
            let mut until = self.lock();
            until.insert(address, end);
            self.apply(&mut until)?;
        }
        let silence = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if let Err(error) = silence.apply(&mut silence.lock()) {
                tracing::error!(%address, %error, "a board that was not to be answered for a while is still not answered");
            }
        });
        Ok(())
    }

    /// Tells the kernel who is silent now.
    fn apply(&self, until: &mut BTreeMap<Ipv4Addr, Instant>) -> io::Result<()> {
        let now = clock::now();
        until.retain(|_, end| now < *end);
        if until.len() > SILENT_MAX {
            return Err(io::Error::other(format!(
                "more than {SILENT_MAX} boards at once are not to be answered"
            )));
        }
        let filter = filter(&until.keys().copied().collect::<Vec<_>>());
        for socket in self.sockets.iter().map(SockRef::from) {
            if until.is_empty() {
                // There may be none.
                let _ = socket.detach_filter();
            } else {
                socket.attach_filter(&filter)?;
            }
        }
        Ok(())
    }
}

/// Drops what comes from one of `addresses`, and lets all else through.
fn filter(addresses: &[Ipv4Addr]) -> Vec<SockFilter> {
    let mut filter = vec![SockFilter::new(LOAD_WORD, 0, 0, SOURCE)];
    for (index, address) in addresses.iter().enumerate() {
        // Over the comparisons that follow, and the return behind them.
        let to_drop = u8::try_from(addresses.len() - index).expect("so few that a jump reaches them");
        filter.push(SockFilter::new(IF_EQUAL, to_drop, 0, u32::from(*address)));
    }
    filter.push(SockFilter::new(RETURN, 0, 0, ALL));
    filter.push(SockFilter::new(RETURN, 0, 0, 0));
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_silent_is_not_heard_and_all_others_are() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let silence = Silence::of(vec![server.try_clone().unwrap()]);
        let from = |last: u8| UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
        let is_heard = |last| {
            from(last).send_to(b"x", server.local_addr().unwrap()).unwrap();
            server.recv(&mut [0; 8]).is_ok()
        };
        let long = Duration::from_secs(60);
        silence.keep(Ipv4Addr::new(127, 0, 0, 2), long).unwrap();
        silence.keep(Ipv4Addr::new(127, 0, 0, 4), long).unwrap();
        assert_eq!([1, 2, 3, 4, 5].map(is_heard), [true, false, true, false, true]);
        silence.keep(Ipv4Addr::new(127, 0, 0, 2), Duration::ZERO).unwrap();
        assert_eq!([2, 4].map(is_heard), [true, false]);
        silence.keep(Ipv4Addr::new(127, 0, 0, 4), Duration::from_millis(50)).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(is_heard(4), "its time is over");
    }
}
