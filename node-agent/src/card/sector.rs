//! The commit sector: sector 0, whose content alone decides whether a card boots.
//!
//! While an agent works on a card, sector 0 is zero and no GPT header stands beside it; its last write
//! puts a table there. So a power cut anywhere before leaves a card that does not boot.

use super::{Buffer, Card, CardError, SECTOR_BYTES};

/// Bytes that are read and written around sector 0, so that devices with larger blocks write whole ones.
const BLOCK_BYTES: usize = 4096;

const GPT_SIGNATURE: &[u8] = b"EFI PART";

/// Makes the card unbootable, and returns only when that is safe on it. What is so already stays untouched.
///
/// # Errors
/// What the card says.
pub fn invalidate(card: &dyn Card) -> Result<(), CardError> {
    let mut block = Buffer::new(BLOCK_BYTES);
    let sector = SECTOR_BYTES as u64;
    let mut changed = false;
    card.read_at(&mut block, 0)?;
    let (first, second) = block[..2 * SECTOR_BYTES].split_at_mut(SECTOR_BYTES);
    if first.iter().any(|byte| *byte != 0) || second.starts_with(GPT_SIGNATURE) {
        first.fill(0);
        if second.starts_with(GPT_SIGNATURE) {
            second.fill(0);
        }
        card.write_at(&block, 0)?;
        changed = true;
    }
    let last = card.bytes() - sector;
    let backup = &mut block[..SECTOR_BYTES];
    card.read_at(backup, last)?;
    if backup.starts_with(GPT_SIGNATURE) {
        backup.fill(0);
        card.write_at(backup, last)?;
        changed = true;
    }
    if changed { card.flush() } else { Ok(()) }
}

/// Writes sector 0 after everything else is safe on the card, and reads it back. Returns whether the card
/// holds it now.
///
/// # Errors
/// What the card says.
pub fn commit(card: &dyn Card, sector0: &[u8; SECTOR_BYTES]) -> Result<bool, CardError> {
    card.flush()?;
    let mut block = Buffer::new(BLOCK_BYTES);
    card.read_at(&mut block, 0)?;
    block[..SECTOR_BYTES].copy_from_slice(sector0);
    card.write_at(&block, 0)?;
    card.flush()?;
    card.drop_cache()?;
    let mut found = Buffer::new(BLOCK_BYTES);
    card.read_at(&mut found, 0)?;
    Ok(found[..] == block[..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::memory::MemoryCard;

    const CARD_BYTES: usize = 64 * 1024;

    #[test]
    fn an_invalid_card_has_neither_table_nor_gpt_headers_and_the_rest_is_kept() {
        let card = MemoryCard::new(CARD_BYTES);
        card.fill(0x77);
        card.put(512, b"EFI PART");
        card.put(CARD_BYTES - 512, b"EFI PART");
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
    fn a_committed_sector_is_safe_and_its_neighbours_are_kept() {
        let card = MemoryCard::new(CARD_BYTES);
        card.fill(0x77);
        assert!(commit(&card, &[0x55; 512]).unwrap());
        let durable = card.durable();
        assert!(durable[..512] == [0x55; 512] && durable[512..].iter().all(|byte| *byte == 0x77));
    }

    #[test]
    fn a_card_that_lies_about_writes_is_found_out() {
        let card = MemoryCard::new(CARD_BYTES);
        card.ignore_writes();
        assert!(!commit(&card, &[0x55; 512]).unwrap());
    }
}
