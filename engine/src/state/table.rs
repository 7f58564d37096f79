//! The tables of peers, tracks and subscriptions: found by index where packets go, by id where
//! commands come.

use std::hash::Hash;
use std::ops::{Index, IndexMut};

use rustc_hash::FxHashMap;
use slab::Slab;

/// An index into one kind of [`Table`]. It is only valid while its entry is there.
pub(crate) trait TableIndex: Copy + Eq {
    /// The index of a place in the table.
    fn from_place(place: usize) -> Self;
    /// The place in the table.
    fn place(self) -> usize;
}

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $name(pub(crate) u32);

        impl TableIndex for $name {
            fn from_place(place: usize) -> Self {
                $name(place as u32)
            }

            fn place(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// Where the table of peers has one.
    PeerIx
);
index!(
    /// Where the table of tracks has one.
    TrackIx
);
index!(
    /// Where the table of subscriptions has one.
    SubscriptionIx
);

/// Entries that have an id, by which the control plane names them, and an index, by which the
/// engine's own parts refer to each other without hashing.
pub(crate) struct Table<Id, Ix, T> {
    entries: Slab<T>,
    by_id: FxHashMap<Id, Ix>,
}

impl<Id, Ix, T> Default for Table<Id, Ix, T> {
    fn default() -> Self {
        Table {
            entries: Slab::new(),
            by_id: FxHashMap::default(),
        }
    }
}

impl<Id: Copy + Eq + Hash, Ix: TableIndex, T> Table<Id, Ix, T> {
    /// Adds an entry under an id that is not there yet.
    pub(crate) fn insert(&mut self, id: Id, entry: T) -> Ix {
        debug_assert!(!self.by_id.contains_key(&id));
        let index = Ix::from_place(self.entries.insert(entry));
        self.by_id.insert(id, index);
        index
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, id: Id) -> Option<(Ix, T)> {
        let index = self.by_id.remove(&id)?;
        Some((index, self.entries.try_remove(index.place())?))
    }

    /// The index of the entry with this id.
    pub(crate) fn find(&self, id: Id) -> Option<Ix> {
        self.by_id.get(&id).copied()
    }

    /// Whether there is an entry with this id.
    pub(crate) fn contains(&self, id: Id) -> bool {
        self.by_id.contains_key(&id)
    }
}

impl<Id, Ix: TableIndex, T> Table<Id, Ix, T> {
    /// The entry at an index, if there is one.
    pub(crate) fn get(&self, index: Ix) -> Option<&T> {
        self.entries.get(index.place())
    }

    /// The entry at an index, if there is one.
    pub(crate) fn get_mut(&mut self, index: Ix) -> Option<&mut T> {
        self.entries.get_mut(index.place())
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries, in no particular order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| entry)
    }
}

impl<Id, Ix: TableIndex, T> Index<Ix> for Table<Id, Ix, T> {
    type Output = T;

    fn index(&self, index: Ix) -> &T {
        &self.entries[index.place()]
    }
}

impl<Id, Ix: TableIndex, T> IndexMut<Ix> for Table<Id, Ix, T> {
    fn index_mut(&mut self, index: Ix) -> &mut T {
        &mut self.entries[index.place()]
    }
}
