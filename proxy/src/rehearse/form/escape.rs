//! Text of unknown origin on its way into markup. Names of clients, models, fields and files come from traffic.

use std::fmt;

use crate::told::clean;

/// Text that is shown as itself in HTML and XML, in elements and in quoted attributes.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in clean(self.0).chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_place() {
        let hostile = "</td><script>alert('x')</script>\" onload=\"y\u{1b}[2J\u{202e}\u{ffff}&amp;";
        let shown = Escaped(hostile).to_string();
        assert!(!shown.contains(['<', '>', '"', '\'', '\u{1b}', '\u{202e}', '\u{ffff}']), "{shown}");
        assert!(shown.starts_with("&lt;/td&gt;&lt;script&gt;") && shown.ends_with("&amp;amp;"), "{shown}");
    }
}
