//! Connections counted by the address that they come from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// The connections of each address.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One connection of an address, for as long as it is held.
#[derive(Debug)]
pub(super) struct Counted {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    /// Counts one more connection of an address, unless it has `max` already.
    pub(super) fn count(&self, address: IpAddr, max: usize) -> Option<Counted> {
        let mut counts = self.counts();
        let count = counts.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Counted { addresses: self.clone(), address })
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_at_once() {
        let addresses = Addresses::default();
        let [one, other] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        let held: Vec<_> = (0..3).filter_map(|_| addresses.count(one, 2)).collect();
        assert_eq!(held.len(), 2);
        assert!(addresses.count(other, 2).is_some());
        drop(held);
        assert!(addresses.counts().is_empty() && addresses.count(one, 2).is_some());
    }
}
