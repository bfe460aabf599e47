//! What an earlier user left on a card goes: the beginnings of everything, or all of it.
//!
//! The beginnings of the partitions go before the table that says where they are, so that a wipe which was cut
//! off can be repeated by somebody who knows nothing.

use super::{Buffer, Card, CardError, sector};
use crate::cancel::{Cancel, Cancelled};
use piseduce_protocol::command::Wipe;
use piseduce_protocol::table::{self, ReadError, Table};
use std::ops::Range;

/// How much of the card and of each partition is its header: signatures, superblocks and directories of all
/// file systems that Linux mounts begin there.
const HEADER_BYTES: u64 = 1 << 20;

/// Written at once.
const PIECE_BYTES: usize = 1 << 20;

/// Discarded at once: one discard of a whole card may answer nothing for minutes (kernel documentation,
/// mmc-dev-attrs).
const DISCARD_BYTES: u64 = 64 << 20;

/// Why a card is not wiped.
#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    /// The work was stopped.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The card failed.
    #[error(transparent)]
    Card(#[from] CardError),
    /// It took the zeros and shows something else.
    #[error("{card} shows old content at {offset} after it was overwritten")]
    Kept {
        /// The card.
        card: String,
        /// Where.
        offset: u64,
    },
}

/// Wipes `card`, and returns how that was done: a card that cannot discard is zeroed instead. Tells `advance` the
/// bytes done and in total.
///
/// # Errors
/// Every [`WipeError`].
pub fn wipe(
    card: &dyn Card,
    wipe: Wipe,
    cancel: &Cancel,
    advance: &(dyn Fn(u64, u64) + Sync),
) -> Result<Wipe, WipeError> {
    let headers = headers(card)?;
    let (whole, ends) = headers.split_at(headers.len() - 2);
    for range in whole {
        zero(card, range.clone(), cancel, &|_| {})?;
    }
    card.flush()?;
    sector::invalidate(card)?;
    for range in ends {
        zero(card, range.clone(), cancel, &|_| {})?;
    }
    card.flush()?;
    let done = match wipe {
        Wipe::Headers => Wipe::Headers,
        Wipe::Discard if discard(card, cancel, advance)? => Wipe::Discard,
        Wipe::Discard | Wipe::Zero => {
            zero(card, 0..card.bytes(), cancel, &|done| advance(done, card.bytes()))?;
            Wipe::Zero
        }
    };
    card.flush()?;
    check(card, &headers)?;
    Ok(done)
}

/// The ranges that are wiped always: the beginnings of the partitions, then those of both ends of the card.
fn headers(card: &dyn Card) -> Result<Vec<Range<u64>>, CardError> {
    let bytes = card.bytes();
    let read = |at, into: &mut [u8]| {
        let mut buffer = Buffer::new(into.len());
        card.read_at(&mut buffer, at)?;
        into.copy_from_slice(&buffer);
        Ok::<_, CardError>(())
    };
    let mut headers = Vec::new();
    match Table::read(bytes / table::SECTOR_BYTES, read) {
        Ok(table) => {
            let starts = table.entries().into_iter().map(|entry| entry.start * table::SECTOR_BYTES);
            // An old table may speak of a larger card.
            headers.extend(starts.filter(|start| *start < bytes).map(|start| start..start + HEADER_BYTES));
        }
        Err(ReadError::Disk(error)) => return Err(error),
        // What has no table that can be read has no partitions that others could find.
        Err(ReadError::Table(_)) => {}
    }
    headers.extend([0..HEADER_BYTES, bytes.saturating_sub(HEADER_BYTES)..bytes]);
    Ok(headers.into_iter().map(|range| range.start..range.end.min(bytes)).collect())
}

fn zero(card: &dyn Card, range: Range<u64>, cancel: &Cancel, advance: &dyn Fn(u64)) -> Result<(), WipeError> {
    let zeros = Buffer::new(PIECE_BYTES);
    for at in range.clone().step_by(PIECE_BYTES) {
        cancel.check()?;
        let bytes = usize::try_from(range.end - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        card.write_at(&zeros[..bytes], at)?;
        advance(at + bytes as u64 - range.start);
    }
    Ok(())
}

/// Whether the card could be told that nothing on it is needed.
fn discard(card: &dyn Card, cancel: &Cancel, advance: &(dyn Fn(u64, u64) + Sync)) -> Result<bool, WipeError> {
    for at in (0..card.bytes()).step_by(DISCARD_BYTES as usize) {
        cancel.check()?;
        let bytes = DISCARD_BYTES.min(card.bytes() - at);
        if !card.discard(at, bytes)? {
            return Ok(false);
        }
        advance(at + bytes, card.bytes());
    }
    // What a discarded block shows is up to the card; the headers must not be what they were.
    for range in headers(card)? {
        zero(card, range, cancel, &|_| {})?;
    }
    Ok(true)
}

fn check(card: &dyn Card, headers: &[Range<u64>]) -> Result<(), WipeError> {
    card.drop_cache()?;
    let mut piece = Buffer::new(PIECE_BYTES);
    for range in headers {
        let found = &mut piece[..usize::try_from(range.end - range.start).expect("a header is short")];
        card.read_at(found, range.start)?;
        if let Some(at) = found.iter().position(|byte| *byte != 0) {
            return Err(WipeError::Kept { card: card.name().into(), offset: range.start + at as u64 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::memory::MemoryCard;
    use rustix::io::Errno;

    const CARD_BYTES: usize = 8 << 20;
    const SECOND: usize = 5 << 20;

    /// A card full of old content with two partitions, the second at [`SECOND`].
    fn used() -> MemoryCard {
        let card = MemoryCard::new(CARD_BYTES);
        card.fill(0x77);
        let mut sector0 = [0; 512];
        for (index, start, sectors) in [(0, 4096_u32, 4096_u32), (1, (SECOND / 512) as u32, 2048)] {
            let at = 446 + 16 * index;
            sector0[at + 4] = 0x83;
            sector0[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            sector0[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        }
        sector0[510..].copy_from_slice(&[0x55, 0xaa]);
        card.put(0, &sector0);
        card
    }

    fn run(card: &MemoryCard, how: Wipe) -> Result<Wipe, WipeError> {
        wipe(card, how, &Cancel::new(), &|done, total| assert!(done <= total))
    }

    fn is_zero(bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| *byte == 0)
    }

    #[test]
    fn headers_are_both_ends_and_the_beginning_of_every_partition() {
        let card = used();
        assert_eq!(run(&card, Wipe::Headers).unwrap(), Wipe::Headers);
        let durable = card.durable();
        for start in [0, 2 << 20, SECOND, CARD_BYTES - (1 << 20)] {
            assert!(is_zero(&durable[start..start + (1 << 20)]), "{start}");
        }
        assert_eq!(durable[3 << 20], 0x77, "what is no header is left");
    }

    #[test]
    fn zero_leaves_nothing_and_discard_falls_back_to_it() {
        for (how, can_discard, done) in [
            (Wipe::Zero, true, Wipe::Zero),
            (Wipe::Discard, false, Wipe::Zero),
            (Wipe::Discard, true, Wipe::Discard),
        ] {
            let card = used();
            card.let_discard(can_discard);
            assert_eq!(run(&card, how).unwrap(), done);
            assert!(is_zero(&card.durable()), "{how} as {done}");
        }
    }

    #[test]
    fn a_wipe_that_was_cut_off_anywhere_never_leaves_a_table_without_knowing_its_partitions() {
        let writes = {
            let card = used();
            run(&card, Wipe::Headers).unwrap();
            card.writes()
        };
        for cut in 0..writes {
            let card = used();
            card.cut_after(cut);
            run(&card, Wipe::Headers).unwrap_err();
            for survives in [|_: usize| true, |_| false, |index| index % 2 == 0] {
                let again = MemoryCard::new(CARD_BYTES);
                again.put(0, &card.after_cut(survives));
                run(&again, Wipe::Headers).unwrap();
                let durable = again.durable();
                assert!(is_zero(&durable[2 << 20..3 << 20]), "first partition, cut after {cut}");
                assert!(is_zero(&durable[SECOND..SECOND + (1 << 20)]), "second partition, cut after {cut}");
            }
        }
    }

    #[test]
    fn every_request_that_fails_is_named_and_a_card_that_lies_is_found_out() {
        let requests = {
            let card = used();
            run(&card, Wipe::Zero).unwrap();
            card.requests()
        };
        for number in 0..requests {
            let card = used();
            card.fail(number, Errno::IO);
            assert!(matches!(run(&card, Wipe::Zero), Err(WipeError::Card(_))), "request {number}");
        }
        // With a table to invalidate it is found out by that already.
        for (bytes, by_headers) in [(&[][..], false), (&[0; 1024][..], true)] {
            let card = used();
            card.put(0, bytes);
            card.ignore_writes();
            let error = run(&card, Wipe::Zero).unwrap_err();
            assert_eq!(matches!(error, WipeError::Kept { .. }), by_headers, "{error}");
        }
    }
}
