//! Whether the site key and the store belong together. All secrets of a boot follow from the key and a number that the
//! store gives out; a store that was lost, exchanged or put back would give numbers out twice. So the store knows its
//! key, and a file beside the key knows how far the store had come: a store that has not come so far is not served.

use super::{DataDirectory, DataError, SITE_KEY, STORE};
use crate::store::{HighWater, Store};
use piseduce_protocol::id::Hash;
use piseduce_protocol::seal::SiteKey;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;

/// The file that says how far the store had come, beside the key.
pub const SITE_MARK: &str = "site.mark";

/// What an operator can do in every such case.
const WAY_OUT: &str = "put back the store that belongs there (the newest), or let the next start make a new site key with \
                       `piseduce site-key renew`: nodes in the boot root are booted again then, deployed ones keep working";

/// Why a store is not served with the site key beside it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// There is a key and no store.
    #[error("there is a site key but no store: its numbers would be given out twice; {WAY_OUT}")]
    StoreLost,
    /// The store was never served.
    #[error(
        "the site key was used with another store, this one is new: numbers would be given out twice; {WAY_OUT}"
    )]
    StoreNew,
    /// The store was served with another key.
    #[error(
        "the store was served with another site key (hash {store}) than the one beside it (hash {key}); {WAY_OUT}"
    )]
    OtherKey {
        /// The beginning of the hash that the store knows.
        store: String,
        /// The beginning of the hash of the key.
        key: String,
    },
    /// Nobody knows how far the store had come.
    #[error(
        "{SITE_MARK} is missing, cannot be read or is another key's: nobody knows whether the store is the newest; {WAY_OUT}"
    )]
    MarkLost,
    /// The store is older than it was.
    #[error(
        "the store is an older copy: it was at start {} and journal entry {}, and is at {} and {} now; {WAY_OUT}",
        was.epoch, was.journal, now.epoch, now.journal
    )]
    WentBack {
        /// How far it had come.
        was: HighWater,
        /// How far it has come.
        now: HighWater,
    },
}

/// How far the store of a key had come.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    key: Hash,
    starts: u64,
    journal: u64,
}

/// A key and the store that belongs to it.
pub struct Served {
    /// The site key.
    pub key: SiteKey,
    /// Its store.
    pub store: Store,
    /// Whether the store was served with this key before: then what cards know follows from it.
    pub is_known: bool,
}

/// What names a site key and does not give it away.
fn fingerprint(key: &SiteKey) -> Hash {
    Hash(blake3::derive_key("piseduce v1 site key fingerprint", &key.0))
}

impl DataDirectory {
    /// Opens key and store for serving; makes both the first time, and a new key where there is only a store, as after a
    /// restore.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] when they do not belong together.
    pub async fn open_for_serving(&self) -> Result<Served, DataError> {
        let key = self.read_site_key()?;
        if key.is_some() {
            self.check_store_is_there()?;
        }
        let store = Store::open_with_ballast(&self.file(STORE))?;
        let state = store.key_state().await?;
        let Some(key) = key else {
            let key = Self::new_site_key()?;
            store.set_key(fingerprint(&key)).await?;
            self.write_mark(&key, state.high_water)?;
            // Last: whoever is interrupted before makes another one.
            self.write_private(SITE_KEY, &key.0)?;
            return Ok(Served { key, store, is_known: false });
        };
        let own = fingerprint(&key);
        match state.fingerprint {
            Some(known) if known == own => self.check_mark(own, state.high_water)?,
            Some(known) => {
                let short = |hash: Hash| hash.to_string()[..16].to_owned();
                return Err(Mismatch::OtherKey { store: short(known), key: short(own) }.into());
            }
            None if state.high_water.epoch == 0 => return Err(Mismatch::StoreNew.into()),
            // Versions before kept no note of the key.
            None => {
                self.write_mark(&key, state.high_water)?;
                store.set_key(own).await?;
            }
        }
        Ok(Served { key, store, is_known: true })
    }

    /// A store that is made beside a key would take the place of one that was lost.
    pub(super) fn check_store_is_there(&self) -> Result<(), DataError> {
        let has_store = fs::metadata(self.file(STORE)).is_ok_and(|it| it.len() > 0);
        match !has_store && self.file(SITE_KEY).exists() {
            true => Err(Mismatch::StoreLost.into()),
            false => Ok(()),
        }
    }

    fn check_mark(&self, own: Hash, now: HighWater) -> Result<(), DataError> {
        let mark = fs::read(self.file(SITE_MARK)).ok();
        let mark = mark.and_then(|text| serde_json::from_slice::<Mark>(&text).ok());
        match mark.filter(|mark| mark.key == own) {
            Some(Mark { starts, journal, .. }) if starts > now.epoch || journal > now.journal => {
                Err(Mismatch::WentBack { was: HighWater { epoch: starts, journal }, now }.into())
            }
            Some(_) => Ok(()),
            None => Err(Mismatch::MarkLost.into()),
        }
    }

    /// Writes down how far the store has come.
    ///
    /// # Errors
    /// [`DataError::Io`]; then the older mark stays, by which less is noticed.
    pub fn write_mark(&self, key: &SiteKey, at: HighWater) -> Result<(), DataError> {
        let mark = Mark { key: fingerprint(key), starts: at.epoch, journal: at.journal };
        let text = serde_json::to_vec(&mark).expect("a hash and numbers");
        self.write_private(SITE_MARK, &text)
    }

    /// Removes the site key, so that the next start makes a new one with whatever store is there. Whoever calls keeps
    /// coordinators out.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn forget_site_key(&self) -> Result<bool, DataError> {
        let mut was_there = false;
        // The key first: a mark without one is ignored.
        for name in [SITE_KEY, SITE_MARK] {
            match fs::remove_file(self.file(name)) {
                Ok(()) => was_there |= name == SITE_KEY,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(DataError::Io { action: "remove", path: self.file(name), source }),
            }
        }
        Ok(was_there)
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::clock::UnixMs;
    use crate::store::Actor;

    struct Bench {
        directory: tempfile::TempDir,
        data: DataDirectory,
    }

    impl Bench {
        /// A directory that was served once.
        async fn served() -> Bench {
            let directory = tempfile::tempdir().unwrap();
            let data = DataDirectory::open(&directory.path().join("data")).unwrap();
            let bench = Bench { directory, data };
            bench.serve().await.unwrap();
            bench
        }

        /// Serves for a moment.
        async fn serve(&self) -> Result<SiteKey, DataError> {
            let Served { key, store, .. } = self.data.open_for_serving().await?;
            store.begin_epoch().await?;
            store.note(UnixMs(1), Actor::Machine, "test", String::new()).await?;
            self.data.write_mark(&key, store.key_state().await?.high_water)?;
            store.close().await?;
            Ok(key)
        }

        async fn refusal(&self) -> Mismatch {
            match self.serve().await {
                Err(DataError::Mismatch(mismatch)) => mismatch,
                other => panic!("not refused: {:?}", other.map(drop)),
            }
        }

        fn remove(&self, name: &str) {
            fs::remove_file(self.data.file(name)).unwrap();
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_whole_keeps_its_key_and_one_without_a_key_gets_a_new_one() {
        let bench = Bench::served().await;
        let first = bench.serve().await.unwrap();
        assert!(bench.serve().await.unwrap() == first);
        bench.remove(SITE_KEY);
        let second = bench.serve().await.unwrap();
        assert!(second != first, "as after a restore");
        assert!(bench.serve().await.unwrap() == second);
        assert!(bench.data.forget_site_key().unwrap());
        assert!(bench.serve().await.unwrap() != second);
    }

    #[tokio::test]
    async fn a_store_that_is_lost_empty_or_new_is_not_served_with_an_old_key() {
        let bench = Bench::served().await;
        bench.remove(STORE);
        assert_eq!(bench.refusal().await, Mismatch::StoreLost);
        assert!(bench.data.store().is_err(), "nor is a new one made beside the key");
        fs::write(bench.data.file(STORE), "").unwrap();
        assert_eq!(bench.refusal().await, Mismatch::StoreLost);
        Store::open(&bench.data.file(STORE)).unwrap().close().await.unwrap();
        assert_eq!(bench.refusal().await, Mismatch::StoreNew);
        bench.data.forget_site_key().unwrap();
        bench.serve().await.unwrap();
    }

    #[tokio::test]
    async fn an_older_copy_of_the_store_is_not_served() {
        let bench = Bench::served().await;
        let copy = bench.directory.path().join("copy");
        fs::copy(bench.data.file(STORE), &copy).unwrap();
        bench.serve().await.unwrap();
        fs::copy(&copy, bench.data.file(STORE)).unwrap();
        assert!(matches!(bench.refusal().await, Mismatch::WentBack { .. }));
        bench.remove(SITE_MARK);
        assert_eq!(bench.refusal().await, Mismatch::MarkLost);
    }

    #[tokio::test]
    async fn a_store_of_another_site_is_not_served() {
        let (bench, other) = (Bench::served().await, Bench::served().await);
        fs::copy(other.data.file(STORE), bench.data.file(STORE)).unwrap();
        assert!(matches!(bench.refusal().await, Mismatch::OtherKey { .. }));
        fs::copy(other.data.file(SITE_KEY), bench.data.file(SITE_KEY)).unwrap();
        assert_eq!(bench.refusal().await, Mismatch::MarkLost, "nobody knows how far that one had come");
    }
}
