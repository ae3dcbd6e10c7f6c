//! A sorted map in one vector. It saves memory: there are a million mailboxes with one or two folders and tasks each.

/// Pairs in order of key. An insertion at the end, the usual case here, moves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VecMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for VecMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Up to this many pairs the map grows by one at a time, so that the many small maps waste no memory.
const SMALL: usize = 4;

impl<K: Ord, V> VecMap<K, V> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: std::borrow::Borrow<Q>,
    {
        match self.0.last() {
            None => Err(0),
            Some((last, _)) if last.borrow() < key => Err(self.0.len()),
            Some(_) => self.0.binary_search_by(|(known, _)| known.borrow().cmp(key)),
        }
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => {
                if let Some((_, stored)) = self.0.get_mut(at) {
                    *stored = value;
                }
            }
            Err(at) => {
                if self.0.len() == self.0.capacity() && self.0.len() < SMALL {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, (key, value));
            }
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// Keeps only the pairs whose keys satisfy `keep`.
    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.0.retain(|(key, _)| keep(key));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_in_order_and_are_found_replaced_and_removed() {
        let mut map = VecMap::new();
        for key in [5_u64, 1, 9, 3, 7] {
            map.insert(key, key * 10);
        }
        map.insert(9, 91);
        assert_eq!(
            map.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            [1, 3, 5, 7, 9]
        );
        assert_eq!((map.get(&9), map.get(&4), map.len()), (Some(&91), None, 5));
        *map.get_mut(&1).unwrap() += 1;
        assert_eq!((map.remove(&1), map.remove(&1)), (Some(11), None));
        assert_eq!(map.values().copied().collect::<Vec<_>>(), [30, 50, 70, 91]);
    }

    #[test]
    fn a_small_map_has_no_room_to_spare() {
        let mut map = VecMap::new();
        map.insert(1_u64, ());
        assert_eq!(map.0.capacity(), 1);
    }
}
