//! Values that nothing else holds, and the shapes in which a leak would show them.

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};

/// A value of random letters and digits in three parts. A leak shows as any part in any shape, so
/// that a copy whose head was overwritten is found as well.
#[derive(Debug, Clone)]
pub struct Canary {
    parts: [String; 3],
}

impl Canary {
    /// A new one.
    ///
    /// # Panics
    /// When the system gives no random bytes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            parts: std::array::from_fn(|_| random_text(PART)),
        }
    }

    /// The value to set: the parts with characters between them that JSON and shells escape.
    #[must_use]
    pub fn value(&self) -> String {
        self.parts.join("\"\n\\é'")
    }

    /// Its first part, for where the whole value cannot stand: a header, an address.
    #[must_use]
    pub fn word(&self) -> &str {
        &self.parts[0]
    }

    /// Every shape to look for: plain, base64 at each alignment, hexadecimal, and numbers in a list.
    #[must_use]
    pub fn needles(&self) -> Vec<Needle> {
        let mut needles = Vec::new();
        for part in &self.parts {
            let bytes = part.as_bytes();
            let mut add = |shape, text: String| {
                needles.push(Needle {
                    shape,
                    bytes: text.into_bytes(),
                });
            };
            add("plain", part.clone());
            add("hex", HEXLOWER.encode(bytes));
            add("HEX", HEXUPPER.encode(bytes));
            let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
            add("numbers", numbers.join(", "));
            add("JSON numbers", numbers.join(","));
            let wide: Vec<u8> = bytes.iter().flat_map(|byte| [*byte, 0]).collect();
            needles.push(Needle {
                shape: "UTF-16",
                bytes: wide,
            });
            for at in 0..3 {
                for (shape, encoding) in [("base64", BASE64), ("base64url", BASE64URL)] {
                    let mut shifted = vec![0; at];
                    shifted.extend_from_slice(bytes);
                    let text = encoding.encode(&shifted);
                    // What depends on the bytes before and after is cut off.
                    let whole = shifted.len() * 8 / 6;
                    let text = text[(at * 8).div_ceil(6)..whole].to_owned();
                    needles.push(Needle {
                        shape,
                        bytes: text.into_bytes(),
                    });
                }
            }
        }
        needles
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

/// One shape of one part.
#[derive(Debug, Clone)]
pub struct Needle {
    /// What it is.
    pub shape: &'static str,
    /// What to look for.
    pub bytes: Vec<u8>,
}

/// `len` random letters and digits.
///
/// # Panics
/// When the system gives no random bytes.
#[must_use]
pub fn random_text(len: usize) -> String {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

const PART: usize = 20;
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyzACDEFGHJK";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_found_in_what_it_stands_for() {
        let canary = Canary::new();
        let value = canary.value();
        let found = |haystack: &[u8], shape: &str| {
            let mut needles = canary.needles().into_iter().filter(|n| n.shape == shape);
            needles.any(|n| memchr::memmem::find(haystack, &n.bytes).is_some())
        };
        for pad in ["", "x", "xy"] {
            let text = format!("{pad}{value}");
            assert!(found(BASE64.encode(text.as_bytes()).as_bytes(), "base64"));
            assert!(found(
                BASE64URL.encode(text.as_bytes()).as_bytes(),
                "base64url"
            ));
            assert!(found(HEXLOWER.encode(text.as_bytes()).as_bytes(), "hex"));
            assert!(found(
                format!("{:?}", text.as_bytes()).as_bytes(),
                "numbers"
            ));
            assert!(found(
                serde_json::to_string(&text).unwrap().as_bytes(),
                "plain"
            ));
        }
        assert!(!found(b"something else", "plain"));
    }
}
