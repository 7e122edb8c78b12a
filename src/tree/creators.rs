//! The highest session id of each server that has made any: part of the state, so that no id comes
//! twice, and that no server makes an id out of another one's.

use crate::types::SessionId;
use std::collections::BTreeMap;

/// The highest id of each creator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionHighWater(BTreeMap<u8, SessionId>);

impl SessionHighWater {
    /// Takes notice of an id that was made.
    pub(crate) fn raise(&mut self, id: SessionId) {
        let highest = self.0.entry(id.creator()).or_insert(id);
        *highest = id.max(*highest);
    }

    /// The highest id of a creator.
    pub(super) fn of(&self, creator: u8) -> Option<SessionId> {
        self.0.get(&creator).copied()
    }

    /// The highest id of each creator, sorted by creator.
    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = SessionId> {
        self.0.values().copied()
    }
}

impl FromIterator<SessionId> for SessionHighWater {
    fn from_iter<I: IntoIterator<Item = SessionId>>(ids: I) -> SessionHighWater {
        let mut high_water = SessionHighWater::default();
        ids.into_iter().for_each(|id| high_water.raise(id));
        high_water
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_creator_has_its_own_highest_id_also_where_ids_are_negative() {
        let id = SessionId::of;
        let made = [id(1, 5), id(3, 9), id(200, 7), id(1, 4), id(200, 8)];
        let high_water: SessionHighWater = made.into_iter().collect();
        assert_eq!(high_water.of(1), Some(id(1, 5)));
        assert_eq!(high_water.of(2), None);
        assert!(id(200, 8).0 < 0);
        let ids: Vec<_> = high_water.ids().collect();
        assert_eq!(ids, [id(1, 5), id(3, 9), id(200, 8)]);
    }
}
