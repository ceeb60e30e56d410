//! What every page for people begins with: self-contained, without a script, light and dark.

const STYLE: &str = include_str!("style.css");

/// Everything in front of the content. The texts are markup already: what comes from traffic goes through
/// [`Escaped`](super::escape::Escaped) first.
#[must_use]
pub fn begin(title: &str, heading: &str, under: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{heading}</h1>\n\
         <p class=\"soft\">{under}</p>\n</header>\n<main>\n"
    )
}
