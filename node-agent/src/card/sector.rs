//! The sectors whose content alone decides whether a card boots, and their two changes: made invalid
//! before anything else is written, and committed after everything else.
//!
//! While an agent works on a card, sector 0 is zero and no GPT header stands where one is looked for; the
//! last write puts a table into sector 0. So a power cut anywhere before leaves a card that does not boot.
//! Every write here is read back: a worn card may accept writes and forget them.

use super::{Buffer, Card, CardError, SECTOR_BYTES};
use piseduce_protocol::table::GPT_SIGNATURE;

/// Whole blocks of so many bytes are read and written, so that devices with larger sectors can do so too.
const BLOCK_BYTES: u64 = 4096;

/// Where firmware and kernels look for a partition table on a card of so many bytes: in sector 0, and for
/// the headers of a GPT in sector 1 and in the last.
pub fn places(card_bytes: u64) -> [u64; 3] {
    [0, SECTOR_BYTES as u64, card_bytes - SECTOR_BYTES as u64]
}

/// Makes the card unbootable, and returns only when that is safe on it. What is so already stays untouched.
///
/// # Errors
/// What the card says, and [`CardError::Forgets`].
pub fn invalidate(card: &dyn Card) -> Result<(), CardError> {
    let mut found = Buffer::new(SECTOR_BYTES);
    for at in places(card.bytes()) {
        card.read_at(&mut found, at)?;
        let counts = match at {
            0 => found.iter().any(|byte| *byte != 0),
            _ => found.starts_with(GPT_SIGNATURE),
        };
        if counts {
            put(card, at, &[0; SECTOR_BYTES])?;
        }
    }
    Ok(())
}

/// Writes `pieces`, whole sectors at bytes of the card, one after the other: each is safe on the card
/// before the next is begun, and everything that was written before is before the first.
///
/// # Errors
/// What the card says, and [`CardError::Forgets`].
pub fn commit<'p>(
    card: &dyn Card,
    pieces: impl IntoIterator<Item = (u64, &'p [u8])>,
) -> Result<(), CardError> {
    card.flush()?;
    pieces.into_iter().try_for_each(|(at, bytes)| put(card, at, bytes))
}

/// Writes `bytes` at `at`, flushes, and reads back.
fn put(card: &dyn Card, at: u64, bytes: &[u8]) -> Result<(), CardError> {
    let start = at - at % BLOCK_BYTES;
    let end = (at + bytes.len() as u64).next_multiple_of(BLOCK_BYTES).min(card.bytes());
    let (mut blocks, mut found) = (Buffer::new((end - start) as usize), Buffer::new((end - start) as usize));
    card.read_at(&mut blocks, start)?;
    blocks[(at - start) as usize..][..bytes.len()].copy_from_slice(bytes);
    card.write_at(&blocks, start)?;
    card.flush()?;
    card.drop_cache()?;
    card.read_at(&mut found, start)?;
    match found[..] == blocks[..] {
        true => Ok(()),
        false => Err(CardError::Forgets { card: card.name().into(), offset: at }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::memory::MemoryCard;

    /// The last block is not whole.
    const CARD_BYTES: usize = 64 * 1024 + 512;

    fn used_card() -> MemoryCard {
        let card = MemoryCard::new(CARD_BYTES);
        card.fill(0x77);
        card.put(512, GPT_SIGNATURE);
        card.put(CARD_BYTES - 512, GPT_SIGNATURE);
        card
    }

    #[test]
    fn an_invalid_card_has_neither_table_nor_gpt_headers_and_the_rest_is_kept() {
        let card = used_card();
        invalidate(&card).unwrap();
        let durable = card.durable();
        let zero = |range: std::ops::Range<usize>| durable[range].iter().all(|byte| *byte == 0);
        assert!(zero(0..1024) && zero(CARD_BYTES - 512..CARD_BYTES));
        assert!(durable[1024..CARD_BYTES - 512].iter().all(|byte| *byte == 0x77));
        let writes = card.writes();
        invalidate(&card).unwrap();
        assert_eq!(card.writes(), writes, "what is invalid already is not written again");
    }

    #[test]
    fn committed_sectors_are_safe_and_their_neighbours_are_kept() {
        let card = used_card();
        let last = CARD_BYTES as u64 - 512;
        commit(&card, [(last, &[0x44; 512][..]), (7 * 512, &[0x33; 1024]), (0, &[0x55; 512])]).unwrap();
        let durable = card.after_cut(|_| false);
        assert!(durable[..512] == [0x55; 512] && durable[CARD_BYTES - 512..] == [0x44; 512]);
        assert!(durable[7 * 512..9 * 512] == [0x33; 1024]);
        let kept = durable[520..7 * 512].iter().chain(&durable[9 * 512..CARD_BYTES - 512]);
        assert!(kept.into_iter().all(|byte| *byte == 0x77));
    }

    #[test]
    fn a_card_that_forgets_what_is_written_is_found_out_before_and_after_the_work() {
        let card = used_card();
        card.ignore_writes();
        let before = card.durable();
        let forgets = |result| matches!(result, Err(CardError::Forgets { .. }));
        assert!(forgets(invalidate(&card)) && forgets(commit(&card, [(0, &[0x55; 512][..])])));
        assert!(card.durable() == before);
    }
}
