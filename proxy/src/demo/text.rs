//! Words for a terminal: wrapping, and moments as people read them.

use std::time::Duration;

/// Breaks `text` at spaces into lines of at most `width` characters; a longer word stays whole.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

/// When something ends and how long it lasts, both ends given as Unix seconds.
#[must_use]
pub fn until_text(time: f64, until: f64) -> String {
    let minutes = (until - time) / 60.0;
    format!("until {} UTC, for {minutes:.0} min", clock(until))
}

/// The time of day of a moment, given as Unix seconds.
#[must_use]
pub fn clock(seconds: f64) -> String {
    let second_of_day = Duration::from_secs_f64(seconds.max(0.0)).as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn a_moment_is_told_as_time_of_day() {
        assert_eq!(clock(86_400.0 + 3_723.9), "01:02:03");
        assert_eq!(until_text(0.0, 900.0), "until 00:15:00 UTC, for 15 min");
    }
}
