//! Work that is compiled once more for processors with AVX2, which the program finds out when it runs.
//!
//! What one instruction works on changes by that, and no result.

/// What the processor has beyond what every one of its kind has.
#[derive(Clone, Copy, Debug)]
pub struct Processor {
    #[cfg(target_arch = "x86_64")]
    avx2: Option<Avx2>,
}

impl Default for Processor {
    #[inline]
    fn default() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: Avx2::try_new(),
        }
    }
}

impl Processor {
    /// One that has nothing more.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: None,
        }
    }

    /// Does `work` by the most that the processor has.
    #[inline(always)]
    pub fn run<T>(self, work: impl Work<Basic, Output = T> + Work<Avx2, Output = T>) -> T {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = self.avx2 {
            return pulp::Simd::vectorize(avx2, OnAvx2 { work, avx2 });
        }
        work.by(Basic)
    }
}

/// What every processor of its kind has.
#[derive(Clone, Copy, Debug)]
pub struct Basic;

/// AVX2 and what comes with it.
#[cfg(target_arch = "x86_64")]
pub type Avx2 = pulp::x86::V3;
/// No processor of this kind has more.
#[cfg(not(target_arch = "x86_64"))]
pub type Avx2 = Basic;

/// Work that a processor does by one of these. Whatever it calls is to be `#[inline(always)]`: only what is compiled into it is
/// compiled for that processor.
pub trait Work<By> {
    /// What comes of it.
    type Output;

    /// Does it.
    fn by(self, by: By) -> Self::Output;
}

/// Work that is compiled for AVX2.
#[cfg(target_arch = "x86_64")]
struct OnAvx2<W> {
    work: W,
    avx2: Avx2,
}

#[cfg(target_arch = "x86_64")]
impl<W: Work<Avx2>> pulp::WithSimd for OnAvx2<W> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> W::Output {
        self.work.by(self.avx2)
    }
}
