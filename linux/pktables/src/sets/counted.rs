//! Packets that rules have counted.

use rustix::io::Errno;

use super::{Sets, counter_of, refused};
use crate::{
    error::Error,
    message::{Message, attribute, kind, text},
};

/// `NFTA_RULE_CHAIN`.
const CHAIN: u16 = 2;
/// `NFTA_RULE_EXPRESSIONS`.
const EXPRESSIONS: u16 = 4;

impl Sets {
    /// Packets that the counters in a chain's rules have counted, together; 0 if there is no such chain.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counted(&mut self, table: &str, chain: &str) -> Result<u64, Error> {
        let question = Message::new(kind::GET_RULE, &[text(attribute::TABLE, table), text(CHAIN, chain)]);
        let messages = match self.connection.dump(&question) {
            Err(Errno::NOENT) => return Ok(0),
            answer => answer.map_err(|errno| refused("list the rules of a chain", errno))?,
        };
        let mut packets: u64 = 0;
        for message in &messages {
            let rule = message.attributes();
            // Some kernels ignore the filter.
            if rule.text(attribute::TABLE) != Some(table) || rule.text(CHAIN) != Some(chain) {
                continue;
            }
            let expressions = rule.nested(EXPRESSIONS).into_iter();
            for expression in expressions.flat_map(|list| list.all_nested(attribute::LIST_ITEM)) {
                packets = packets.saturating_add(counter_of(expression).unwrap_or_default());
            }
        }
        Ok(packets)
    }
}
