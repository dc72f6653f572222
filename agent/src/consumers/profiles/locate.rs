//! On which line something stands, told by the parser itself: it is made to fail there.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One step from a document towards something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'p> {
    Key(&'p str),
    Item(usize),
}

/// The line, from 1, of what `path` leads to in the given document of `text`: a key's own line, an
/// item's first. Where the path leads nowhere, that of the nearest thing around it.
pub(super) fn line(text: &str, document: usize, path: &[Step<'_>]) -> Option<usize> {
    let document = serde_yaml::Deserializer::from_str(text).nth(document)?;
    let error = Walk(path).deserialize(document).err()?;
    error.location().map(|at| at.line())
}

/// Fails where its path ends. Scalars fail by themselves: only mappings and lists are expected.
struct Walk<'p>(&'p [Step<'p>]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something else")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((Step::Key(wanted), rest)) = self.0.split_first() {
            let last = rest.is_empty();
            while let Some(found) = map.next_key_seed(Key { wanted, last })? {
                if found {
                    return map.next_value_seed(Walk(rest));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(A::Error::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some((Step::Item(wanted), rest)) = self.0.split_first() {
            for _ in 0..*wanted {
                list.next_element::<IgnoredAny>()?;
            }
            list.next_element_seed(Walk(rest))?;
        }
        Err(A::Error::custom("here"))
    }
}

/// Says whether a key is the wanted one; fails on it when it is the end of the path.
struct Key<'p> {
    wanted: &'p str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.last => Err(E::custom("here")),
            found => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Step::{Item, Key};
    use super::*;

    #[test]
    fn keys_and_items_are_found_in_every_style() {
        let text = "# first\n\
                    service: a/b\n\
                    ---\n\
                    service: c/d\n\
                    \"templates\":\n\
                    - name: x\n\
                    \x20 text: |\n\
                    \x20   service: no\n\
                    - { name: y,\n\
                    \x20   text: z }\n\
                    systemd: { units: [a.service,\n\
                    \x20 b.service] }\n";
        let find = |document, path: &[Step<'_>]| line(text, document, path);
        assert_eq!(find(0, &[Key("service")]), Some(2));
        assert_eq!(find(1, &[]), Some(4));
        assert_eq!(find(1, &[Key("service")]), Some(4));
        assert_eq!(find(1, &[Key("templates")]), Some(5));
        assert_eq!(find(1, &[Key("templates"), Item(0), Key("text")]), Some(7));
        assert_eq!(find(1, &[Key("templates"), Item(1), Key("text")]), Some(10));
        assert_eq!(find(1, &[Key("systemd"), Key("units"), Item(1)]), Some(12));
        assert_eq!(find(2, &[]), None);
    }

    #[test]
    fn what_is_not_there_is_near_what_is_around_it() {
        let text = "a: 1\nb:\n  c: 2\n";
        assert_eq!(line(text, 0, &[Key("z")]), Some(1));
        assert_eq!(line(text, 0, &[Key("b"), Key("z")]), Some(3));
        assert_eq!(line(text, 0, &[Key("a"), Key("z")]), Some(1));
    }
}
