//! A number that changes when the rules of a table do.

use std::hash::{DefaultHasher, Hash as _, Hasher};

use rustix::io::Errno;

use super::{Sets, refused};
use crate::{
    error::Error,
    message::{Attributes, Message, attribute, kind, text},
};

impl Sets {
    /// A number that changes with the chains and rules of a table, but not with counters and elements of sets.
    pub(crate) fn fingerprint(&mut self, table: &str) -> Result<u64, Error> {
        let failed = |errno| refused("list the rules of a table", errno);
        let mut hasher = DefaultHasher::new();
        let name = [text(attribute::TABLE, table)];
        let [found] = self.request([Message::new(kind::GET_TABLE, &name)])?;
        match found {
            Ok(found) => found.attributes().bytes(attribute::TABLE_FLAGS).hash(&mut hasher),
            Err(Errno::NOENT) => return Ok(0),
            Err(errno) => return Err(failed(errno)),
        }
        for list in [kind::GET_CHAIN, kind::GET_RULE] {
            let messages = match self.connection.dump(&Message::new(list, &name)) {
                Err(Errno::NOENT) => return Ok(0),
                answer => answer.map_err(failed)?,
            };
            for message in &messages {
                let attributes = message.attributes();
                // Some kernels ignore the filter.
                if attributes.text(attribute::TABLE) == Some(table) {
                    fingerprint_of(list, attributes, &mut hasher);
                }
            }
        }
        Ok(hasher.finish())
    }
}

/// What makes a chain or a rule what it is.
fn fingerprint_of(list: u16, attributes: Attributes<'_>, hasher: &mut impl Hasher) {
    if list == kind::GET_CHAIN {
        // NFTA_CHAIN_NAME, _HOOK, _POLICY and _TYPE.
        for attribute in [3, 4, 5, 7] {
            attributes.bytes(attribute).hash(hasher);
        }
        return;
    }
    // NFTA_RULE_CHAIN and NFTA_RULE_EXPRESSIONS.
    attributes.bytes(2).hash(hasher);
    let expressions = attributes.nested(4).into_iter();
    for expression in expressions.flat_map(|list| list.all_nested(attribute::LIST_ITEM)) {
        let name = expression.text(attribute::EXPRESSION_NAME);
        name.hash(hasher);
        if name != Some("counter") {
            expression.bytes(attribute::EXPRESSION_DATA).hash(hasher);
        }
    }
}
