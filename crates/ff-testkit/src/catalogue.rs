//! The cases by id, and the oracle's answers to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ff_spec::Dtype;

pub use crate::case::{Case, CaseSet};
pub use crate::gated::Evaluated;
use crate::gated::Gated;

/// Evaluations of the oracle, so that variants and runtimes share one.
///
/// Forgets the oldest beyond a limit of bytes.
#[derive(Debug)]
pub struct OracleCache<O: Gated> {
    limit: usize,
    bytes: usize,
    known: BTreeMap<Key<O>, Arc<Evaluated<O>>>,
    oldest: VecDeque<Key<O>>,
}

/// The variant is [`Gated::representative`].
type Key<O> = (<O as ff_spec::Op>::Variant, &'static str, Dtype, u64);

impl<O: Gated> Default for OracleCache<O> {
    /// Holds 256 MiB.
    fn default() -> Self {
        Self::new(256 << 20)
    }
}

impl<O: Gated> OracleCache<O> {
    /// Holds up to `limit` bytes of tensors.
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, known: BTreeMap::new(), oldest: VecDeque::new() }
    }

    /// The inputs of a case and the oracle's answer, computed where not known.
    ///
    /// # Errors
    /// [`Gated::Error`] for a variant that the oracle does not know.
    pub fn get(
        &mut self,
        case: &Case<O::Spec>,
        variant: &O::Variant,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Arc<Evaluated<O>>, O::Error> {
        let key = (O::representative(variant), case.id, dtype, seed);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let evaluated = Arc::new(O::evaluate(case, variant, dtype, seed)?);
        self.bytes += O::bytes(&evaluated);
        self.oldest.push_back(key.clone());
        self.known.insert(key, evaluated.clone());
        while self.bytes > self.limit
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.bytes -= self.known.remove(&oldest).map_or(0, |e| O::bytes(&e));
        }
        Ok(evaluated)
    }
}

#[cfg(test)]
mod tests {
    use ff_spec::FusedMessage;
    use ff_spec::fused_message::Variant;

    use super::*;

    #[test]
    fn reductions_share_an_evaluation_and_the_limit_holds() {
        let a: Variant = "cfconv_linear_gaussian_cosine_receiver".parse().unwrap();
        let b: Variant = "cfconv_linear_gaussian_cosine_edge_atomic".parse().unwrap();
        let case = &FusedMessage::cases(&a, CaseSet::Quick)[0];
        let mut cache = OracleCache::<FusedMessage>::default();
        let first = cache.get(case, &a, Dtype::F32, 0).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get(case, &b, Dtype::F32, 0).unwrap()));
        assert!(!Arc::ptr_eq(&first, &cache.get(case, &b, Dtype::F64, 0).unwrap()));
        let mut small = OracleCache::<FusedMessage>::new(FusedMessage::bytes(&first));
        for seed in 0..4 {
            small.get(case, &a, Dtype::F32, seed).unwrap();
        }
        assert_eq!((small.known.len(), small.oldest.len(), small.bytes), (1, 1, FusedMessage::bytes(&first)));
    }
}
