//! Which bytes are damaged, found while they pass by.

/// As many bytes of what has passed are remembered, to find what comes in pieces; what is looked for is shorter.
const REMEMBERED: usize = 256;

/// One damaged byte after an occurrence of something, or after several.
#[derive(Clone, Debug)]
pub struct Flip {
    after: Vec<u8>,
    skip: u64,
    nth: usize,
    times: usize,
}

impl Flip {
    /// The byte `skip` bytes after the next occurrence of `after` on any connection.
    pub fn after(after: impl Into<Vec<u8>>, skip: u64) -> Flip {
        Flip { after: after.into(), skip, nth: 1, times: 1 }
    }

    /// The byte at `offset` of the next new connection.
    pub fn at(offset: u64) -> Flip {
        Flip::after([], offset)
    }

    /// The byte at `offset` of the body of the next HTTP message.
    pub fn in_body(offset: u64) -> Flip {
        Flip::after(*b"\r\n\r\n", offset)
    }

    /// Begins with the `nth` occurrence instead of the first.
    pub fn nth(self, nth: usize) -> Flip {
        Flip { nth, ..self }
    }

    /// After so many occurrences instead of one.
    pub fn times(self, times: usize) -> Flip {
        Flip { times, ..self }
    }
}

/// A flip that was ordered, and how many occurrences there were since.
#[derive(Debug)]
pub(super) struct Ordered {
    flip: Flip,
    seen: usize,
}

impl Ordered {
    pub(super) fn new(flip: &Flip) -> Ordered {
        assert!(flip.after.len() < REMEMBERED, "too long to be found");
        Ordered { flip: flip.clone(), seen: 0 }
    }
}

/// One direction of one connection, as far as it has passed.
#[derive(Default)]
pub(super) struct Passed {
    /// The last bytes.
    last: Vec<u8>,
    bytes: u64,
    /// Where bytes are to be damaged.
    marked: Vec<u64>,
}

impl Passed {
    /// Damages what is to be damaged in the next `block`; how many bytes that were.
    pub(super) fn damage(&mut self, block: &mut [u8], orders: &mut [Ordered]) -> usize {
        let begin = self.bytes;
        let text = [&self.last[..], block].concat();
        for ordered in orders {
            for end in self.occurrences(&text, &ordered.flip.after) {
                ordered.seen += 1;
                let Flip { nth, times, skip, .. } = ordered.flip;
                if (nth..nth + times).contains(&ordered.seen) {
                    self.marked.push(begin + (end - self.last.len()) as u64 + skip);
                }
            }
        }
        self.bytes += block.len() as u64;
        self.last = text[text.len().saturating_sub(REMEMBERED)..].to_vec();
        let (now, later): (Vec<u64>, Vec<u64>) = self.marked.drain(..).partition(|at| *at < self.bytes);
        self.marked = later;
        for at in &now {
            block[usize::try_from(at - begin).expect("inside the block")] ^= 0x10;
        }
        now.len()
    }

    /// Where in `text`, what is remembered and the next block, occurrences end that end in the block.
    fn occurrences(&self, text: &[u8], wanted: &[u8]) -> Vec<usize> {
        if wanted.is_empty() {
            return if self.bytes == 0 { vec![0] } else { Vec::new() };
        }
        let from = (self.last.len() + 1).saturating_sub(wanted.len());
        let windows = text[from..].windows(wanted.len()).enumerate();
        windows.filter(|(_, window)| *window == wanted).map(|(at, _)| from + at + wanted.len()).collect()
    }
}
