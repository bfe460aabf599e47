//! The sectors of an image that the card gets with the commit only, and that are zero on it before: what
//! makes a partition table of the rest. See `card/sector.rs` for where firmware and kernels look for one.

use crate::card::{SECTOR_BYTES, sector};
use piseduce_protocol::table::GPT_SIGNATURE;

/// Sectors of an image that are held back.
#[derive(Clone, Debug, Default)]
pub struct Withheld(Vec<(u64, [u8; SECTOR_BYTES])>);

impl Withheld {
    /// What is held back of an image of `image_bytes` on a card of `card_bytes`; `read` reads the image.
    ///
    /// # Errors
    /// What `read` fails with.
    pub fn of<E>(
        image_bytes: u64,
        card_bytes: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut withheld = Vec::new();
        for at in sector::places(card_bytes).into_iter().filter(|at| *at < image_bytes) {
            let mut bytes = [0; SECTOR_BYTES];
            read(at, &mut bytes)?;
            if at == 0 || bytes.starts_with(GPT_SIGNATURE) {
                withheld.push((at, bytes));
            }
        }
        Ok(Withheld(withheld))
    }

    /// The sectors: byte and content.
    pub fn sectors(&self) -> &[(u64, [u8; SECTOR_BYTES])] {
        &self.0
    }

    /// Makes them zero in `bytes` of the image, which begin at byte `start`: as they are on the card.
    pub fn hide(&self, start: u64, bytes: &mut [u8]) {
        self.each(start, bytes, |place, _| place.fill(0));
    }

    /// Puts them into `bytes` of the card, which begin at byte `start`: as they are in the image.
    pub fn restore(&self, start: u64, bytes: &mut [u8]) {
        self.each(start, bytes, |place, sector| place.copy_from_slice(sector));
    }

    fn each(&self, start: u64, bytes: &mut [u8], change: impl Fn(&mut [u8], &[u8; SECTOR_BYTES])) {
        for (at, sector) in &self.0 {
            let from = at.checked_sub(start).and_then(|from| usize::try_from(from).ok());
            if let Some(place) = from.and_then(|from| bytes.get_mut(from..from + SECTOR_BYTES)) {
                change(place, sector);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const SECTORS: usize = 16;

    /// An image of 16 sectors of sevens with GPT headers in sector 1, 5 and its last.
    fn image() -> Vec<u8> {
        let mut image = vec![7; SECTORS * SECTOR_BYTES];
        for sector in [1, 5, SECTORS - 1] {
            image[sector * SECTOR_BYTES..][..8].copy_from_slice(GPT_SIGNATURE);
        }
        image
    }

    fn withheld(image: &[u8], card_bytes: usize) -> Withheld {
        let read = |at: u64, into: &mut [u8]| {
            into.copy_from_slice(&image[at as usize..][..into.len()]);
            Ok::<(), Infallible>(())
        };
        let Ok(withheld) = Withheld::of(image.len() as u64, card_bytes as u64, read);
        withheld
    }

    #[test]
    fn sector_0_and_headers_where_they_count_are_held_back_and_come_back() {
        for (card_sectors, expected) in [(SECTORS, &[0, 1, SECTORS - 1][..]), (SECTORS + 1, &[0, 1])] {
            let withheld = withheld(&image(), card_sectors * SECTOR_BYTES);
            let mut bytes = image();
            withheld.hide(0, &mut bytes);
            let hidden =
                |sector: &usize| bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES].iter().all(|byte| *byte == 0);
            assert_eq!((0..SECTORS).filter(hidden).collect::<Vec<_>>(), expected);
            withheld.restore(0, &mut bytes);
            assert!(bytes == image());
        }
    }

    #[test]
    fn a_part_of_the_image_gets_only_what_lies_in_it() {
        let withheld = withheld(&image(), SECTORS * SECTOR_BYTES);
        let mut part = image()[2 * SECTOR_BYTES..].to_vec();
        withheld.hide(2 * SECTOR_BYTES as u64, &mut part);
        let (last, rest) = (part.split_off(13 * SECTOR_BYTES), part);
        assert!(last.iter().all(|byte| *byte == 0) && rest == image()[2 * SECTOR_BYTES..15 * SECTOR_BYTES]);
    }
}
