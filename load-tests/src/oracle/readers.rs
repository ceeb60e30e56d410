//! Readers of HTTP/1.1 with the habits of real servers.
//!
//! One parser with switches stands for many: each [`Habits`] is a combination that is, or was, found in a server
//! people run. The bytes that a proxy sends upstream are safe where the strict reader accepts them and all others
//! read the same messages.

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The method.
    pub method: Vec<u8>,
    /// The target as it came.
    pub target: Vec<u8>,
    /// The body without its framing.
    pub body: Vec<u8>,
}

/// How a sequence of requests ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the last byte of a message.
    Clean,
    /// In the middle of a message.
    Cut,
    /// With bytes that this reader refuses.
    Refused(&'static str),
}

/// What a reader makes of the bytes of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The whole messages, in order.
    pub messages: Vec<Message>,
    /// What comes after them.
    pub end: End,
    /// Bytes that belong to whole messages.
    pub consumed: usize,
}

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// CR LF; a lone CR or LF is refused (RFC 9112, 2.2).
    Strict,
    /// LF, with or without a CR in front of it.
    Lf,
    /// LF, CR LF, or a lone CR.
    Any,
}

/// Which length counts where there are both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Both {
    /// None: the message is refused.
    Refuse,
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding`.
    Encoding,
}

/// Which line counts where a field is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// None: the message is refused.
    Refuse,
    /// The first.
    First,
    /// The last.
    Last,
}

/// What a header line that begins with white space is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// An error.
    Refuse,
    /// The rest of the line before it.
    Join,
    /// A line of its own.
    Own,
}

/// How a number is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Digits and nothing else.
    Strict,
    /// As `strtol` does: white space, a sign and `0x` in front, and whatever comes after the digits is left.
    Prefix,
    /// As Python's `int` does: a sign, white space around it, underscores between digits.
    Python,
}

/// Which values of `Transfer-Encoding` mean chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Exactly `chunked`; every other value is refused.
    Strict,
    /// A list whose last member is `chunked`.
    Last,
    /// A value in which `chunked` occurs.
    Contains,
}

/// How a server reads.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// For messages.
    pub name: &'static str,
    /// What ends a line.
    pub line_end: LineEnd,
    /// Which length counts.
    pub both: Both,
    /// Which of several counts.
    pub repeated: Repeated,
    /// What a folded line is.
    pub fold: Fold,
    /// How `Content-Length` and chunk sizes are read.
    pub number: Number,
    /// Which encodings are chunks.
    pub encoding: Encoding,
    /// Whether `_` in a field's name is `-`, as it is behind CGI and WSGI.
    pub underscores: bool,
    /// Whether white space around a field's name is removed.
    pub trims_names: bool,
}

/// RFC 9112 with every latitude that it grants refused.
pub const STRICT: Habits = Habits {
    name: "strict",
    line_end: LineEnd::Strict,
    both: Both::Refuse,
    repeated: Repeated::Refuse,
    fold: Fold::Refuse,
    number: Number::Strict,
    encoding: Encoding::Strict,
    underscores: false,
    trims_names: false,
};

const LENIENT: Habits = Habits {
    name: "line feeds end lines",
    line_end: LineEnd::Lf,
    both: Both::Encoding,
    repeated: Repeated::First,
    fold: Fold::Join,
    number: Number::Prefix,
    encoding: Encoding::Last,
    underscores: false,
    trims_names: true,
};

/// The readers whose word is compared with the strict one's.
pub const LENIENT_READERS: [Habits; 9] = [
    LENIENT,
    Habits { name: "content-length first", both: Both::Length, ..LENIENT },
    Habits { name: "any line end", line_end: LineEnd::Any, fold: Fold::Own, ..LENIENT },
    Habits { name: "last field wins", repeated: Repeated::Last, ..LENIENT },
    Habits { name: "names as they come", trims_names: false, fold: Fold::Own, ..LENIENT },
    Habits { name: "chunked anywhere", encoding: Encoding::Contains, ..LENIENT },
    Habits { name: "python", line_end: LineEnd::Any, number: Number::Python, ..LENIENT },
    Habits { name: "wsgi, length first", underscores: true, both: Both::Length, ..LENIENT },
    Habits { name: "wsgi, encoding first", underscores: true, repeated: Repeated::Last, ..LENIENT },
];

/// Why a reader stops.
enum Stop {
    /// The bytes end before the message does.
    Short,
    /// The bytes break a rule.
    Refused(&'static str),
}

type Read<'a, T> = Result<(T, &'a [u8]), Stop>;

/// Reads `bytes` as a server with these habits would read them from a connection.
#[must_use]
pub fn read(bytes: &[u8], habits: &Habits) -> Reading {
    let mut messages = Vec::new();
    let mut rest = bytes;
    let end = loop {
        if rest.is_empty() {
            break End::Clean;
        }
        match habits.message(rest) {
            Ok((message, after)) => {
                messages.push(message);
                rest = after;
            }
            Err(Stop::Short) => break End::Cut,
            Err(Stop::Refused(why)) => break End::Refused(why),
        }
    };
    Reading { messages, end, consumed: bytes.len() - rest.len() }
}

/// A header as the reader understood it.
struct Field {
    name: Vec<u8>,
    value: Vec<u8>,
}

/// How a body ends.
enum Framing {
    Length(usize),
    Chunked,
}

impl Habits {
    fn is_strict(&self) -> bool {
        self.line_end == LineEnd::Strict
    }

    fn message<'a>(&self, bytes: &'a [u8]) -> Read<'a, Message> {
        let bytes = self.without_empty_lines(bytes);
        let (line, rest) = self.line(bytes)?;
        let (method, target, old) = self.request_line(line)?;
        let (fields, rest) = self.fields(rest)?;
        let framing = self.framing(&fields, old)?;
        if self.is_strict() {
            one_host(&fields, old)?;
        }
        let (body, rest) = match framing {
            Framing::Length(length) => {
                rest.split_at_checked(length).map(|(body, rest)| (body.to_vec(), rest))
            }
            Framing::Chunked => Some(self.chunks(rest)?),
        }
        .ok_or(Stop::Short)?;
        Ok((Message { method, target, body }, rest))
    }

    /// RFC 9112, 2.2 lets a server skip an empty line in front of a request; the lenient skip them all.
    fn without_empty_lines<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if self.is_strict() {
            return bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        }
        let first = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
        &bytes[first..]
    }

    fn line<'a>(&self, bytes: &'a [u8]) -> Read<'a, &'a [u8]> {
        let ends = |byte: &u8| *byte == b'\n' || (*byte == b'\r' && self.line_end != LineEnd::Lf);
        let at = bytes.iter().position(ends).ok_or(Stop::Short)?;
        match (self.line_end, bytes[at], bytes.get(at + 1)) {
            (LineEnd::Lf, ..) => {
                Ok((bytes[..at].strip_suffix(b"\r").unwrap_or(&bytes[..at]), &bytes[at + 1..]))
            }
            (_, b'\r', Some(b'\n')) => Ok((&bytes[..at], &bytes[at + 2..])),
            (_, b'\r', None) => Err(Stop::Short),
            (LineEnd::Any, ..) => Ok((&bytes[..at], &bytes[at + 1..])),
            (LineEnd::Strict, b'\r', _) => Err(Stop::Refused("a bare CR")),
            (LineEnd::Strict, ..) => Err(Stop::Refused("a bare LF")),
        }
    }

    /// Method, target, and whether the version is older than HTTP/1.1.
    fn request_line(&self, line: &[u8]) -> Result<(Vec<u8>, Vec<u8>, bool), Stop> {
        let split =
            |byte: &u8| *byte == b' ' || (!self.is_strict() && matches!(byte, b'\t' | 0x0b | 0x0c | b'\r'));
        let mut words: Vec<&[u8]> = line.split(split).collect();
        if !self.is_strict() {
            words.retain(|word| !word.is_empty());
        }
        let &[method, target, version] = words.as_slice() else {
            return Err(Stop::Refused("a request line without three words"));
        };
        if self.is_strict() {
            strict_request_line(method, target, version)?;
        }
        Ok((method.to_vec(), target.to_vec(), version == b"HTTP/1.0"))
    }

    fn fields<'a>(&self, bytes: &'a [u8]) -> Read<'a, Vec<Field>> {
        let mut fields: Vec<Field> = Vec::new();
        let mut rest = bytes;
        loop {
            let (line, after) = self.line(rest)?;
            rest = after;
            if line.is_empty() {
                return Ok((fields, rest));
            }
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                match self.fold {
                    Fold::Refuse => return Err(Stop::Refused("a folded line")),
                    Fold::Join => {
                        join(&mut fields, line);
                        continue;
                    }
                    Fold::Own => {}
                }
            }
            fields.extend(self.field(line)?);
        }
    }

    /// One header line; the lenient skip a line without a colon.
    fn field(&self, line: &[u8]) -> Result<Option<Field>, Stop> {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return if self.is_strict() {
                Err(Stop::Refused("a header line without colon"))
            } else {
                Ok(None)
            };
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if self.is_strict() {
            strict_field(name, value)?;
        }
        let name = if self.trims_names { name.trim_ascii() } else { name };
        let fit = |byte: u8| if byte == b'_' && self.underscores { b'-' } else { byte.to_ascii_lowercase() };
        let name = name.iter().map(|byte| fit(*byte)).collect();
        Ok(Some(Field { name, value: value.trim_ascii().to_vec() }))
    }

    fn framing(&self, fields: &[Field], old: bool) -> Result<Framing, Stop> {
        let length = self.chosen(fields, b"content-length")?;
        let encoding = self.chosen(fields, b"transfer-encoding")?;
        if self.is_strict() && encoding.is_some() && (length.is_some() || old) {
            return Err(Stop::Refused("an encoding beside a length, or in HTTP/1.0"));
        }
        let chunked = match encoding {
            Some(value) => self.is_chunked(value)?,
            None => false,
        };
        match length {
            Some(_) if chunked && self.both == Both::Encoding => Ok(Framing::Chunked),
            Some(value) => self.length(value).map(Framing::Length),
            None if chunked => Ok(Framing::Chunked),
            None => Ok(Framing::Length(0)),
        }
    }

    fn chosen<'a>(&self, fields: &'a [Field], name: &[u8]) -> Result<Option<&'a [u8]>, Stop> {
        let mut values = fields.iter().filter(|field| field.name == name).map(|field| field.value.as_slice());
        let first = values.next();
        let last = values.next_back();
        match (self.repeated, last) {
            (_, None) | (Repeated::First, _) => Ok(first),
            (Repeated::Last, last) => Ok(last),
            (Repeated::Refuse, _) => Err(Stop::Refused("a repeated framing field")),
        }
    }

    fn is_chunked(&self, value: &[u8]) -> Result<bool, Stop> {
        let lower = value.to_ascii_lowercase();
        match self.encoding {
            Encoding::Strict if lower == b"chunked" => Ok(true),
            Encoding::Strict => Err(Stop::Refused("an encoding other than chunked")),
            Encoding::Last => {
                Ok(lower.rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii) == Some(b"chunked"))
            }
            Encoding::Contains => Ok(lower.windows(7).any(|window| window == b"chunked")),
        }
    }

    fn length(&self, value: &[u8]) -> Result<usize, Stop> {
        if self.is_strict() && (value.is_empty() || !value.iter().all(u8::is_ascii_digit)) {
            return Err(Stop::Refused("a length that is no number"));
        }
        self.number(value, 10).ok_or(Stop::Refused("a length that is no number"))
    }

    fn number(&self, text: &[u8], radix: u32) -> Option<usize> {
        let mut digits = if self.number == Number::Strict { text } else { text.trim_ascii() };
        if self.number != Number::Strict {
            digits = digits.strip_prefix(b"+").unwrap_or(digits);
            if radix == 16 {
                digits = digits.strip_prefix(b"0x").or(digits.strip_prefix(b"0X")).unwrap_or(digits);
            }
        }
        let fits =
            |byte: &u8| char::from(*byte).is_digit(radix) || (*byte == b'_' && self.number == Number::Python);
        let count = digits.iter().take_while(|byte| fits(byte)).count();
        if count == 0 || (self.number != Number::Prefix && count < digits.len()) {
            return None;
        }
        let plain: String =
            digits[..count].iter().filter(|byte| **byte != b'_').map(|byte| char::from(*byte)).collect();
        usize::from_str_radix(&plain, radix).ok()
    }

    fn chunks<'a>(&self, bytes: &'a [u8]) -> Read<'a, Vec<u8>> {
        let mut body = Vec::new();
        let mut rest = bytes;
        loop {
            let (line, after) = self.line(rest)?;
            let size = self.chunk_size(line)?;
            if size == 0 {
                let (trailers, rest) = self.fields(after)?;
                self.check_trailers(&trailers)?;
                return Ok((body, rest));
            }
            let (data, after) = after.split_at_checked(size).ok_or(Stop::Short)?;
            body.extend_from_slice(data);
            let (empty, after) = self.line(after)?;
            if !empty.is_empty() {
                return Err(Stop::Refused("a chunk that does not end where it said"));
            }
            rest = after;
        }
    }

    fn chunk_size(&self, line: &[u8]) -> Result<usize, Stop> {
        let mut parts = line.splitn(2, |byte| *byte == b';');
        let (size, extension) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if self.is_strict() && (extension.iter().any(|byte| is_control(*byte)) || size.len() > 15) {
            return Err(Stop::Refused("an odd chunk size or extension"));
        }
        self.number(size, 16).ok_or(Stop::Refused("a chunk size that is no number"))
    }

    fn check_trailers(&self, trailers: &[Field]) -> Result<(), Stop> {
        const FORBIDDEN: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"authorization"];
        let forbidden = trailers.iter().any(|field| FORBIDDEN.contains(&field.name.as_slice()));
        if self.is_strict() && forbidden {
            Err(Stop::Refused("a framing field in a trailer"))
        } else {
            Ok(())
        }
    }
}

fn join(fields: &mut [Field], line: &[u8]) {
    if let Some(last) = fields.last_mut() {
        last.value.push(b' ');
        last.value.extend_from_slice(line.trim_ascii());
        last.value = last.value.trim_ascii().to_vec();
    }
}

/// A control character other than the tab.
fn is_control(byte: u8) -> bool {
    byte != b'\t' && byte.is_ascii_control()
}

/// RFC 9110, 5.6.2.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(fits)
}

fn strict_request_line(method: &[u8], target: &[u8], version: &[u8]) -> Result<(), Stop> {
    if !is_token(method) {
        return Err(Stop::Refused("a method that is no token"));
    }
    if !is_clean_target(method, target) {
        return Err(Stop::Refused("an odd target"));
    }
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Err(Stop::Refused("an odd version"));
    }
    Ok(())
}

/// RFC 9112, 3.2. A backslash passes in the query, where browsers send it as it is.
fn is_clean_target(method: &[u8], target: &[u8]) -> bool {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let clean = target.iter().all(|byte| (0x21..=0x7e).contains(byte) && *byte != b'#');
    let shaped = match target.first() {
        Some(b'/') => true,
        Some(b'*') => target.len() == 1 && method == b"OPTIONS",
        Some(_) => method == b"CONNECT" || without_scheme(target).is_some(),
        None => false,
    };
    clean && shaped && !path.contains(&b'\\')
}

/// What follows `http://` or `https://` in a target in absolute form.
#[must_use]
pub fn without_scheme(target: &[u8]) -> Option<&[u8]> {
    let fits =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| fits(scheme))?;
    target.get(scheme.len()..)
}

fn strict_field(name: &[u8], value: &[u8]) -> Result<(), Stop> {
    if !is_token(name) {
        return Err(Stop::Refused("a field name that is no token"));
    }
    if value.iter().any(|byte| is_control(*byte)) {
        return Err(Stop::Refused("a control character in a value"));
    }
    Ok(())
}

/// RFC 9112, 3.2: exactly one `Host`; HTTP/1.0 may do without.
fn one_host(fields: &[Field], old: bool) -> Result<(), Stop> {
    let mut hosts = fields.iter().filter(|field| field.name == b"host");
    let host = hosts.next();
    match (host, hosts.next()) {
        (_, Some(_)) => Err(Stop::Refused("two hosts")),
        (None, _) if !old => Err(Stop::Refused("no host")),
        (Some(host), _) if !is_clean_host(&host.value) => Err(Stop::Refused("an odd host")),
        _ => Ok(()),
    }
}

/// A name or address with an optional port (RFC 9110, 7.2); nothing at all, where the target has no authority.
fn is_clean_host(host: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    let is_address = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let (clean, port) = match host.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b']').unwrap_or(0);
            (end > 0 && rest[..end].iter().all(is_address), rest.get(end + 1..).unwrap_or_default())
        }
        None => {
            let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
            (host[..end].iter().all(is_name), &host[end..])
        }
    };
    clean && (port.is_empty() || is_clean_port(port))
}

fn is_clean_port(port: &[u8]) -> bool {
    let Some(digits) = port.strip_prefix(b":") else { return false };
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(digits).ok().filter(|_| all_digits);
    number.is_some_and(|digits| digits.is_empty() || digits.parse::<u16>().is_ok())
}

/// Reads with the parser that hyper and many others stand on, framing by the rules of RFC 9112, 6.3.
#[must_use]
pub fn read_with_httparse(bytes: &[u8]) -> Reading {
    let mut messages = Vec::new();
    let mut rest = bytes;
    let end = loop {
        if rest.is_empty() {
            break End::Clean;
        }
        match httparse_message(rest) {
            Ok((message, after)) => {
                messages.push(message);
                rest = after;
            }
            Err(Stop::Short) => break End::Cut,
            Err(Stop::Refused(why)) => break End::Refused(why),
        }
    };
    Reading { messages, end, consumed: bytes.len() - rest.len() }
}

fn httparse_message(bytes: &[u8]) -> Read<'_, Message> {
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Err(Stop::Short),
        Err(_) => return Err(Stop::Refused("httparse")),
    };
    let field = |name: &str| {
        let mut found = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        found.next().map(|header| header.value)
    };
    let chunked = field("transfer-encoding").is_some_and(|value| LENIENT.is_chunked(value).unwrap_or(false));
    let length = match field("content-length") {
        Some(value) => Habits { name: "httparse", ..STRICT }.length(value)?,
        None => 0,
    };
    let method = request.method.unwrap_or_default().as_bytes().to_vec();
    let target = request.path.unwrap_or_default().as_bytes().to_vec();
    let rest = &bytes[head..];
    let (body, rest) = if chunked {
        httparse_chunks(rest)?
    } else {
        rest.split_at_checked(length).map(|(body, rest)| (body.to_vec(), rest)).ok_or(Stop::Short)?
    };
    Ok((Message { method, target, body }, rest))
}

fn httparse_chunks(bytes: &[u8]) -> Read<'_, Vec<u8>> {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let (at, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(read)) => read,
            Ok(httparse::Status::Partial) => return Err(Stop::Short),
            Err(_) => return Err(Stop::Refused("httparse")),
        };
        let size = usize::try_from(size).map_err(|_| Stop::Short)?;
        if size == 0 {
            let (_, rest) = LENIENT.fields(&rest[at..])?;
            return Ok((body, rest));
        }
        let (data, after) = rest[at..].split_at_checked(size).ok_or(Stop::Short)?;
        body.extend_from_slice(data);
        let end = after.get(..2).ok_or(Stop::Short)?;
        if end != b"\r\n" {
            return Err(Stop::Refused("httparse"));
        }
        rest = &after[2..];
    }
}

#[cfg(test)]
mod tests {
    use super::{End, LENIENT_READERS, Reading, STRICT, read, read_with_httparse};

    fn bodies(reading: &Reading) -> Vec<String> {
        reading.messages.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect()
    }

    fn reader(name: &str) -> &'static super::Habits {
        LENIENT_READERS.iter().find(|habits| habits.name == name).expect("a reader of this name")
    }

    #[test]
    fn all_readers_agree_on_ordinary_requests() {
        let bytes = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcPOST /d HTTP/1.1\r\nHost: x\r\n\
            Transfer-Encoding: chunked\r\n\r\n2;e=f\r\nde\r\n1\r\nf\r\n0\r\nX-T: v\r\n\r\nGET /g HTTP/1.1\r\nHost: x\r\n\r\n";
        let strict = read(bytes, &STRICT);
        assert_eq!(
            (strict.end, bodies(&strict)),
            (End::Clean, vec!["abc".into(), "def".into(), String::new()])
        );
        for habits in &LENIENT_READERS {
            assert_eq!(read(bytes, habits), strict, "{} reads ordinary requests otherwise", habits.name);
        }
        assert_eq!(read_with_httparse(bytes), strict, "httparse reads ordinary requests otherwise");
    }

    #[test]
    fn readers_differ_where_real_servers_do() {
        let both =
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert!(matches!(read(both, &STRICT).end, End::Refused(_)), "the strict reader refuses two lengths");
        assert_eq!(bodies(&read(both, reader("content-length first"))), ["0\r\n\r\n"]);
        assert_eq!(bodies(&read(both, reader("last field wins"))), [""]);

        let underscore = b"POST / HTTP/1.1\r\nHost: x\r\nContent_Length: 2\r\n\r\nab";
        assert_eq!(bodies(&read(underscore, reader("wsgi, length first"))), ["ab"]);
        assert_eq!(bodies(&read(underscore, reader("python")))[0], "");

        let folded = b"POST / HTTP/1.1\r\nHost: x\r\nX: y\r\n Content-Length: 2\r\n\r\nab";
        assert_eq!(
            bodies(&read(folded, reader("names as they come")))[0],
            "",
            "its name begins with a space"
        );
        assert_eq!(bodies(&read(folded, reader("any line end"))), ["ab"]);

        let number = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n0123456789";
        assert_eq!(bodies(&read(number, reader("python"))), ["0123456789"]);
        assert_eq!(bodies(&read(number, reader("last field wins")))[0], "0");
    }

    #[test]
    fn the_strict_reader_refuses_what_is_dirty() {
        let dirty: [&[u8]; 14] = [
            b"GET / HTTP/1.1\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nY : z\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nY: \0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        ];
        for bytes in dirty {
            let end = read(bytes, &STRICT).end;
            assert!(matches!(end, End::Refused(_)), "{} gave {end:?}", super::super::escaped(bytes));
        }
    }

    #[test]
    fn what_is_missing_is_a_cut_and_no_refusal() {
        let whole = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for length in 1..whole.len() {
            let reading = read(&whole[..length], &STRICT);
            assert_eq!((reading.end, reading.messages.len()), (End::Cut, 0), "after {length} bytes");
        }
    }
}
