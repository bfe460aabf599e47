//! A card of memory with faults to order, for tests: the n-th request fails, or it and all after it; power
//! is cut after the n-th write; writes are ignored, or those behind the end that the card really has. What
//! was not flushed may or may not survive a power cut, write by write.

use super::{Access, Card, CardError};
use rustix::io::Errno;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The fake card.
pub struct MemoryCard {
    inner: Mutex<Inner>,
    bytes: u64,
}

/// What a card does with bytes behind its end when it claims to be longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// They are forgotten, and read as zeros.
    Forgets,
    /// They are those at the same distance from its beginning.
    Wraps,
}

#[derive(Default)]
struct Inner {
    durable: Vec<u8>,
    /// Writes that were not flushed yet, in order.
    pending: Vec<(usize, Vec<u8>)>,
    requests: usize,
    writes: usize,
    /// Which requests fail, and how.
    faults: Option<(Range<usize>, Errno)>,
    cut_after_writes: Option<usize>,
    ignore_writes: bool,
    can_discard: bool,
    ending: Option<(usize, Ending)>,
}

impl MemoryCard {
    /// A card of `bytes` zero bytes.
    pub fn new(bytes: usize) -> Self {
        let inner = Inner { durable: vec![0; bytes], ..Inner::default() };
        MemoryCard { inner: Mutex::new(inner), bytes: bytes as u64 }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every byte becomes `byte`, as if it had always been there.
    pub fn fill(&self, byte: u8) {
        self.inner().durable.fill(byte);
    }

    /// `bytes` stand at `offset`, as if they had always been there.
    pub fn put(&self, offset: usize, bytes: &[u8]) {
        self.inner().durable[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// The `number`-th request from now on, counted from 0, fails with `errno`; those before and after do not.
    pub fn fail(&self, number: usize, errno: Errno) {
        let mut inner = self.inner();
        let first = inner.requests + number;
        inner.faults = Some((first..first + 1, errno));
    }

    /// The card is taken out before the `number`-th request from now on: that and every later one fail.
    pub fn remove_at(&self, number: usize) {
        let mut inner = self.inner();
        inner.faults = Some((inner.requests + number..usize::MAX, Errno::NXIO));
    }

    /// After `number` more writes power is cut: every later request fails.
    pub fn cut_after(&self, number: usize) {
        let mut inner = self.inner();
        inner.cut_after_writes = Some(inner.writes + number);
    }

    /// From now on writes are accepted and forgotten.
    pub fn ignore_writes(&self) {
        self.inner().ignore_writes = true;
    }

    /// Whether discarding is possible from now on; what is discarded becomes zero.
    pub fn let_discard(&self, can: bool) {
        self.inner().can_discard = can;
    }

    /// The card has only `bytes` bytes, whatever it claims.
    pub fn end_at(&self, bytes: usize, ending: Ending) {
        self.inner().ending = Some((bytes, ending));
    }

    /// How many writes came so far.
    pub fn writes(&self) -> usize {
        self.inner().writes
    }

    /// How many requests came so far.
    pub fn requests(&self) -> usize {
        self.inner().requests
    }

    /// What is on the card after everything pending was written.
    pub fn durable(&self) -> Vec<u8> {
        self.after_cut(|_| true)
    }

    /// What is on the card after a power cut that those pending writes survived which `survives` names by
    /// their place in the queue.
    pub fn after_cut(&self, survives: impl Fn(usize) -> bool) -> Vec<u8> {
        let inner = self.inner();
        let mut bytes = inner.durable.clone();
        for (_, (offset, data)) in inner.pending.iter().enumerate().filter(|(index, _)| survives(*index)) {
            bytes[*offset..*offset + data.len()].copy_from_slice(data);
        }
        bytes
    }

    fn request(&self, access: Access, offset: u64) -> Result<MutexGuard<'_, Inner>, CardError> {
        let mut inner = self.inner();
        let number = inner.requests;
        inner.requests += 1;
        let without_power = inner.cut_after_writes.is_some_and(|limit| inner.writes >= limit);
        let fault = inner.faults.as_ref().filter(|(numbers, _)| numbers.contains(&number));
        let errno = match fault {
            _ if without_power => Errno::PIPE,
            Some((_, errno)) => *errno,
            None => return Ok(inner),
        };
        Err(CardError::Io {
            access,
            card: self.name().into(),
            offset,
            bytes: self.bytes,
            source: errno.into(),
        })
    }
}

impl Inner {
    /// Where a byte range really lies; none when the card has no such bytes. Ranges do not cross its end.
    fn place(&self, offset: u64) -> Option<usize> {
        let offset = offset as usize;
        match self.ending {
            Some((end, Ending::Forgets)) if offset >= end => None,
            Some((end, Ending::Wraps)) => Some(offset % end),
            _ => Some(offset),
        }
    }
}

impl Card for MemoryCard {
    fn name(&self) -> &str {
        "a card of memory"
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), CardError> {
        let inner = self.request(Access::Read, offset)?;
        let Some(start) = inner.place(offset) else {
            buffer.fill(0);
            return Ok(());
        };
        let end = start + buffer.len();
        buffer.copy_from_slice(&inner.durable[start..end]);
        for (at, data) in &inner.pending {
            let (from, to) = (start.max(*at), end.min(at + data.len()));
            if from < to {
                buffer[from - start..to - start].copy_from_slice(&data[from - at..to - at]);
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), CardError> {
        let mut inner = self.request(Access::Write, offset)?;
        assert!(offset + bytes.len() as u64 <= self.bytes, "write beyond the end, at {offset}");
        inner.writes += 1;
        if let Some(place) = inner.place(offset).filter(|_| !inner.ignore_writes) {
            inner.pending.push((place, bytes.to_vec()));
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), CardError> {
        let mut inner = self.request(Access::Flush, 0)?;
        for (offset, data) in std::mem::take(&mut inner.pending) {
            inner.durable[offset..offset + data.len()].copy_from_slice(&data);
        }
        Ok(())
    }

    fn drop_cache(&self) -> Result<(), CardError> {
        self.request(Access::Flush, 0).map(drop)
    }

    fn discard(&self, offset: u64, bytes: u64) -> Result<bool, CardError> {
        let can_discard = self.request(Access::Discard, offset)?.can_discard;
        if can_discard {
            self.write_at(&vec![0; bytes as usize], offset)?;
        }
        Ok(can_discard)
    }
}
