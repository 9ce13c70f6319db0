//! Words of four bytes in a set, such as the first bytes of datagrams.

use std::time::Duration;

use netlink_packet_core::NLM_F_CREATE;

use super::{SetPath, Sets, failed, generation_of, get_generation, get_set};
use crate::{
    error::Error,
    message::{Message, kind},
    netlink::Operation,
    set_elements::added,
};

impl Sets {
    /// Adds words to a set of the type `integer` of 32 bits with the flag `timeout`, each for its time, in one transaction. One
    /// that is there stays as it is.
    ///
    /// # Errors
    /// There is no such set, or the kernel refuses.
    pub fn add_words(&mut self, path: SetPath<'_>, words: &[([u8; 4], Duration)]) -> Result<(), Error> {
        if words.is_empty() {
            return Ok(());
        }
        let elements: Vec<_> = words.iter().map(|(word, left)| (&word[..], Some(*left))).collect();
        let change = self.retry(|sets| {
            let [generation, set] = sets.request([get_generation(), get_set(path)])?;
            let generation = generation_of(generation)?;
            set.map_err(|errno| failed(path, "find a set", errno))?;
            let operations = added(path.table, path.set, &elements).map(|attributes| Operation {
                message: Message::new(kind::NEW_ELEMENT, &attributes),
                flags: NLM_F_CREATE,
            });
            sets.change(path, generation, operations.collect())
        });
        change.map(drop)
    }
}
