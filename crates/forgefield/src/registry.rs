//! Every op of this binary.

use ff_spec::{
    CellList, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage, FusedMessageBackward,
    FusedMessageDoubleBackward,
};
use ff_testkit::registry::{Discrete, Registration, Twice, op};

/// `fused_message`.
pub const FUSED_MESSAGE: Registration<Twice<FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward>> =
    op::<FusedMessage>().first::<FusedMessageBackward>().second::<FusedMessageDoubleBackward>();

/// `cell_list`, whose list is fixed in every backward: the gradient in its edge vectors belongs to the op that reads them.
pub const CELL_LIST: Registration<Discrete<CellList>> = op::<CellList>().discrete();

/// `force_scatter`.
pub const FORCE_SCATTER: Registration<Twice<ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward>> =
    op::<ForceScatter>().first::<ForceScatterBackward>().second::<ForceScatterDoubleBackward>();
