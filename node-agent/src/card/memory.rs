//! A card of memory with faults to order, for tests: the n-th request fails, power is cut after the n-th
//! write, writes are ignored. What was not flushed may or may not survive a power cut, write by write.

use super::{Access, Card, CardError};
use std::io;
use std::sync::{Mutex, PoisonError};

/// The fake card.
pub struct MemoryCard {
    inner: Mutex<Inner>,
    bytes: u64,
}

#[derive(Default)]
struct Inner {
    durable: Vec<u8>,
    /// Writes that were not flushed yet, in order.
    pending: Vec<(usize, Vec<u8>)>,
    requests: usize,
    writes: usize,
    fail_request: Option<usize>,
    fail_with: Option<io::ErrorKind>,
    cut_after_writes: Option<usize>,
    ignore_writes: bool,
    can_discard: bool,
}

impl MemoryCard {
    /// A card of `bytes` zero bytes.
    pub fn new(bytes: usize) -> Self {
        let inner = Inner { durable: vec![0; bytes], ..Inner::default() };
        MemoryCard { inner: Mutex::new(inner), bytes: bytes as u64 }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
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

    /// The `number`-th request from now on, counted from 0, fails with `kind`; those before and after do not.
    pub fn fail(&self, number: usize, kind: io::ErrorKind) {
        let mut inner = self.inner();
        inner.fail_request = Some(inner.requests + number);
        inner.fail_with = Some(kind);
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

    fn request(&self, access: Access, offset: u64) -> Result<std::sync::MutexGuard<'_, Inner>, CardError> {
        let mut inner = self.inner();
        let number = inner.requests;
        inner.requests += 1;
        let without_power = inner.cut_after_writes.is_some_and(|limit| inner.writes >= limit);
        if !without_power && inner.fail_request != Some(number) {
            return Ok(inner);
        }
        let kind = inner.fail_with.filter(|_| !without_power).unwrap_or(io::ErrorKind::BrokenPipe);
        Err(CardError::Io {
            access,
            card: self.name().into(),
            offset,
            bytes: self.bytes,
            source: kind.into(),
        })
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
        let start = offset as usize;
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
        if !inner.ignore_writes {
            inner.pending.push((offset as usize, bytes.to_vec()));
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
        Ok(())
    }

    fn discard(&self, offset: u64, bytes: u64) -> Result<bool, CardError> {
        let can_discard = self.request(Access::Discard, offset)?.can_discard;
        if can_discard {
            self.write_at(&vec![0; bytes as usize], offset)?;
        }
        Ok(can_discard)
    }
}
