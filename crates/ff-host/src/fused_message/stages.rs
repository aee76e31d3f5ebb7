//! What a variant composes: its radial functions and its message.

use ff_spec::fused_message::{DoubleGradients, Filter, Gradients, Message, Outputs, Reduction, Variant};
use pulp::Arch;

use super::backward::backward;
use super::call::{Backward, Call, Direction};
use super::config::HostConfig;
use super::double::double_backward;
use super::forward::{edge_atomic, receiver};
use super::gradient::{self, GradientStage};
use super::hidden::{HiddenLayer, HiddenRates};
use super::message::{Cfconv, MessageStage, Messages, Painn};
use super::radial::{BasisStage, CutoffStage, HermiteTile};
use super::rates::{self, RateStage};
use super::tile::Tile;
use crate::Element;
use crate::generated as radial;

type Forward<T> = fn(&Stages<T>, &Call<T>, &HostConfig, &mut Outputs<T>);
type FirstBackward<T> = fn(&Stages<T>, &Call<T>, Backward<T>, &HostConfig, &mut Gradients<T>);
type SecondBackward<T> = fn(&Stages<T>, &Call<T>, Backward<T>, Direction<T>, &HostConfig, &mut DoubleGradients<T>);

/// The kernels of a variant: function pointers per call and per tile rather than types, so that a radial function or a message
/// adds its own loops and no copy of a kernel.
pub struct Stages<T: Element> {
    /// Filters per feature.
    pub(super) parts: usize,
    /// What the channels of an edge sum in the first backward.
    pub(super) edge_sums: usize,
    /// `None` where a table holds both.
    radial: Option<(&'static BasisStage<T>, &'static CutoffStage<T>)>,
    pub(super) messages: for<'a> fn(Messages<'a, T>),
    pub(super) gradients: for<'a> fn(gradient::Pass<'a, T>),
    pub(super) rates: for<'a> fn(rates::Pass<'a, T>),
    forward: Forward<T>,
    backward: FirstBackward<T>,
    double_backward: SecondBackward<T>,
}

/// An element type for which this crate has compiled every kernel.
pub trait Compiled: Element {
    /// The kernels of a variant; `None` where its radial functions were not rendered.
    fn stages(variant: &Variant) -> Option<Stages<Self>>;
    /// The radial basis of a name.
    fn basis(name: &str) -> Option<&'static BasisStage<Self>>;
    /// The cutoff function of a name.
    fn cutoff(name: &str) -> Option<&'static CutoffStage<Self>>;
}

macro_rules! compiled {
    ($t:ident, $bases:path, $cutoffs:path) => {
        impl Compiled for $t {
            fn stages(variant: &Variant) -> Option<Stages<Self>> {
                Stages::new(variant)
            }

            fn basis(name: &str) -> Option<&'static BasisStage<Self>> {
                $bases.iter().find(|basis| basis.name == name)
            }

            fn cutoff(name: &str) -> Option<&'static CutoffStage<Self>> {
                $cutoffs.iter().find(|cutoff| cutoff.name == name)
            }
        }
    };
}
compiled!(f32, radial::BASES_F32, radial::CUTOFFS_F32);
compiled!(f64, radial::BASES_F64, radial::CUTOFFS_F64);

impl<T: Compiled> Stages<T> {
    fn new(variant: &Variant) -> Option<Self> {
        let radial = match &variant.radial {
            Some((basis, cutoff)) => Some((T::basis(basis)?, T::cutoff(cutoff)?)),
            None => None,
        };
        Some(match variant.message {
            Message::Cfconv => Self::of::<Cfconv>(radial, variant.reduction),
            Message::Painn => Self::of::<Painn>(radial, variant.reduction),
        })
    }

    fn of<M: GradientStage + RateStage>(
        radial: Option<(&'static BasisStage<T>, &'static CutoffStage<T>)>,
        reduction: Reduction,
    ) -> Self {
        Self {
            parts: M::PARTS,
            edge_sums: <M as GradientStage>::EDGE_SUMS,
            radial,
            messages: <M as MessageStage>::add_tile,
            gradients: M::gradients_of_tile,
            rates: M::rates_of_tile,
            forward: match reduction {
                Reduction::Receiver => receiver,
                Reduction::EdgeAtomic => edge_atomic,
            },
            backward,
            double_backward,
        }
    }
}

impl<T: Element> Stages<T> {
    /// Messages, summed at the receivers.
    pub fn forward(&self, call: &Call<T>, config: &HostConfig, out: &mut Outputs<T>) {
        (self.forward)(self, call, config, out);
    }

    /// The first backward (VJP): what `backward.wanted` asks for; see [`backward`].
    pub fn backward(&self, call: &Call<T>, backward: Backward<T>, config: &HostConfig, out: &mut Gradients<T>) {
        (self.backward)(self, call, backward, config, out);
    }

    /// The second backward: gradients of the first in its cotangents and inputs, along `direction`.
    pub fn double_backward(
        &self,
        call: &Call<T>,
        backward: Backward<T>,
        direction: Direction<T>,
        config: &HostConfig,
        out: &mut DoubleGradients<T>,
    ) {
        (self.double_backward)(self, call, backward, direction, config, out);
    }

    /// Everything of the filter that does not depend on the channel, with `ORDER` derivatives in d. With two, also its rate
    /// along the tile's rates and along the tangent `varied` in the weights.
    pub(super) fn coefficients<const ORDER: u8>(&self, call: &Call<T>, varied: Option<&Filter<T>>, tile: &mut Tile<T>) {
        let arch = Arch::new();
        if let Filter::Tabulated { order, n_nodes, .. } = call.filter {
            let (order, n_nodes) = (*order, *n_nodes);
            return arch.dispatch(HermiteTile::<_, ORDER> { r_cut: call.r_cut, order, n_nodes, tile });
        }
        if let Some((basis, cutoff)) = self.radial {
            (cutoff.fill[ORDER as usize])(call, tile);
            (basis.fill[ORDER as usize])(call, tile);
        }
        if ORDER == 2 {
            tile.rates_of_basis(call.n_basis);
        }
        if let Filter::Mlp { a1, b1, activation, .. } = call.filter {
            let activation = *activation;
            let varied = match varied {
                Some(Filter::Mlp { a1, b1, .. }) => Some([&a1[..], &b1[..]]),
                _ => None,
            };
            if const { ORDER == 2 } {
                arch.dispatch(HiddenRates { tile, a1, b1, varied, activation });
            } else {
                arch.dispatch(HiddenLayer::<_, ORDER> { tile, a1, b1, activation });
            }
        }
    }
}
