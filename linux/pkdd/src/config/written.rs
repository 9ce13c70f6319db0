//! What TOML can write in more than one way.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value},
};

use super::values::WordList;

/// The name of a format: a string, or the bare number 2.
pub(super) fn format_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    struct Name;
    impl Visitor<'_> for Name {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"2\" or \"classic\"")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
            Ok(Some(number.to_string()))
        }
    }
    from.deserialize_any(Name)
}

/// An item of a list is read as a list, too, but contains none.
impl<'de> Deserialize<'de> for WordList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = WordList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text, or a list of them")
            }

            fn visit_i64<E>(self, number: i64) -> Result<WordList, E> {
                Ok(WordList(vec![number.into()]))
            }

            // JSON's numbers are these.
            fn visit_u64<E>(self, number: u64) -> Result<WordList, E> {
                Ok(WordList(vec![i64::try_from(number).unwrap_or(i64::MAX).into()]))
            }

            fn visit_str<E>(self, text: &str) -> Result<WordList, E> {
                Ok(WordList::of([text]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WordList, A::Error> {
                let mut all = Vec::new();
                while let Some(WordList(items)) = list.next_element()? {
                    all.extend(items);
                }
                Ok(WordList(all))
            }
        }
        from.deserialize_any(List)
    }
}

/// A single name or address, or a list of them.
pub(super) fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    one_or_more(from, "a name or an address, or a list of them")
}

fn one_or_more<'de, D: Deserializer<'de>>(from: D, expected: &'static str) -> Result<Vec<String>, D::Error> {
    struct Texts(&'static str);
    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }
    from.deserialize_any(Texts(expected))
}

/// A date in quotes, or one of TOML's own.
pub(super) fn date<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    struct Day;
    impl<'de> Visitor<'de> for Day {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a date such as 2027-12-31")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let map = value::MapAccessDeserializer::new(map);
            Ok(Some(toml::value::Datetime::deserialize(map)?.to_string()))
        }
    }
    from.deserialize_any(Day)
}
