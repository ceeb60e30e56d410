//! Entry points for fuzz targets and instruction counts: one function for each inner part that is tried on its own.

pub mod fuzz;
pub mod scrape;

use checkgate_detectors::facts::{Features, NotInspected};
use http::HeaderMap;

use crate::decode::{self, Decoder, Head, Part};

/// Rows of a body and columns of a row that a [`Reader`] reads: the defaults of the configuration.
const ROWS_MAX: usize = 256;
const COLUMNS_MAX: usize = 4096;

/// Reads bodies of one protocol into one reused memory, as a lane does.
pub struct Reader {
    decoder: Box<dyn Decoder>,
    headers: HeaderMap,
    features: Features,
}

impl Reader {
    /// A reader of `protocol` with its default parameters; nothing where there is none of that name, or it has to be
    /// configured.
    #[must_use]
    pub fn of(protocol: &str) -> Option<Self> {
        let spec = decode::spec(protocol)?;
        let decoder = (spec.build)(&(spec.defaults)()).ok()?;
        Some(Self { decoder, headers: HeaderMap::new(), features: Features::default() })
    }

    /// Reads a request body.
    ///
    /// # Errors
    /// Says why it cannot be looked into.
    pub fn question(&mut self, body: &[u8]) -> Result<&Features, NotInspected> {
        self.read(Part::Question, body)
    }

    /// Reads a response body.
    ///
    /// # Errors
    /// Says why it cannot be looked into.
    pub fn answer(&mut self, body: &[u8]) -> Result<&Features, NotInspected> {
        self.read(Part::Answer, body)
    }

    fn read(&mut self, part: Part, body: &[u8]) -> Result<&Features, NotInspected> {
        let head = Head { headers: &self.headers, part, rows_max: ROWS_MAX, columns_max: COLUMNS_MAX };
        self.features.clear();
        self.decoder.decode(&head, body, &mut self.features)?;
        Ok(&self.features)
    }
}
