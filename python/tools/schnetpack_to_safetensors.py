#!/usr/bin/env python3
"""Converts a SchNetPack model (the `best_model` of a training run) to forgefield's model file.

    python3 schnetpack_to_safetensors.py best_model -o model.safetensors --energy-unit eV

Reads what `torch.save(model, path)` wrote of a NeuralNetworkPotential of SchNetPack 2.x, with a PaiNN or SchNet
representation and one Atomwise energy. What weights cannot say (bases, cutoff functions, activations, offsets) is read from
the object. What the file cannot say is refused by name: a model is converted whole or not at all. Needs PyTorch and the
SchNetPack that can read the file.

WARNING: such a file is a pickle, and a pickle can run any code when it is read. Convert only files whose origin you trust.
The file that is written holds numbers and text alone.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import warnings
from pathlib import Path

ENERGY_UNITS = ("eV", "Ha", "kcal/mol", "kJ/mol")
LENGTH_UNITS = ("Ang", "Bohr", "nm")
SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru "
    "Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At "
    "Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()


class Refused(Exception):
    """What was asked for cannot be done; the message says what was expected and what was found."""


def say(text):
    print(text, file=sys.stderr)


def name_of(thing):
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def expect(condition, what, expected, found):
    if not condition:
        raise Refused(f"{what}: expected {expected}, found {found}")


def one_of(thing, classes, what):
    """The value of the class that `thing` is of exactly: a subclass may compute something else."""
    for cls, value in classes.items():
        if type(thing) is cls:
            return value
    raise Refused(f"{what}: expected one of {', '.join(cls.__name__ for cls in classes)}, found {name_of(thing)}")


def load(path):
    """The model in the file, and the SchNetPack version that the file names (None before 2.1)."""
    try:
        import schnetpack
        import torch
    except ImportError as error:
        raise Refused(f"expected torch and a schnetpack that can be imported with it, found: {error}") from error
    say(f"schnetpack {schnetpack.__version__}, torch {torch.__version__}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # A pickle's reading can end in any exception.
        raise Refused(
            f"{path}: expected what schnetpack {schnetpack.__version__} can read, found {type(error).__name__}: {error}"
        ) from error
    if isinstance(model, schnetpack.AtomisticTask):
        model = model.model
    if isinstance(model, dict):
        keys = ", ".join(sorted(map(str, model))[:4])
        raise Refused(
            f"{path}: expected a whole model as torch.save(model, path) writes it (`best_model`), found a dict of {keys}: "
            "weights without the object that says what they mean"
        )
    known = type(model) is schnetpack.model.NeuralNetworkPotential
    expect(known, str(path), "a schnetpack NeuralNetworkPotential", name_of(model))
    version = getattr(model, "spk_version", None)
    say(f"{path}: saved by schnetpack {version or '2.0 (the file names no version, as those before 2.1)'}")
    return model.eval(), version


def activation(function, what):
    """The name of an activation, by what it computes: files name the same function in many ways."""
    import torch

    x = torch.linspace(-20.0, 20.0, 257)
    known = {
        "silu": x * torch.sigmoid(x),
        "shifted_softplus": torch.nn.functional.softplus(x) - math.log(2.0),
        "tanh": torch.tanh(x),
        "none": x,
    }
    name = getattr(function, "__name__", None) or name_of(function)
    with torch.no_grad():
        try:
            y = function(x)
        except Exception as error:
            raise Refused(f"{what}: expected a function of one tensor, found {name}, which ends in {error}") from error
    for known_name, values in known.items():
        # A few roundings to f32; anything trained away from the plain function is further off.
        if y.shape == x.shape and torch.allclose(y.to(x.dtype), values, rtol=1e-6, atol=1e-6):
            return known_name
    raise Refused(f"{what}: expected silu, shifted_softplus or tanh, found {name}")


def linear(layer, what):
    name = activation(layer.activation, f"{what}.activation")
    expect(name == "none", f"{what}.activation", "none", name)


def mlp(layers, what):
    """Layer sizes and hidden activation of a stack of dense layers whose last one is linear."""
    from schnetpack.nn import Dense

    sizes, found = [], set()
    for i, layer in enumerate(layers):
        expect(type(layer) is Dense, f"{what}.{i}", "Dense", name_of(layer))
        expect(not sizes or sizes[-1] == layer.in_features, f"{what}.{i}", f"{sizes[-1:]} inputs", layer.in_features)
        sizes += [layer.in_features] * (not sizes) + [layer.out_features]
        if i + 1 < len(layers):
            found.add(activation(layer.activation, f"{what}.{i}.activation"))
        else:
            linear(layer, f"{what}.{i}")
    expect(len(found) < 2, f"{what}: activations of the hidden layers", "one and the same", ", ".join(sorted(found)))
    expect("none" not in found, f"{what}: activation of the hidden layers", "silu, shifted_softplus or tanh", "none")
    return sizes, found.pop() if found else None


def shared(modules):
    return len(modules) > 1 and all(module is modules[0] for module in modules)


def describe_representation(rep):
    """Metadata of the representation, and the shape of each of its tensors by name."""
    from schnetpack import representation
    from schnetpack.nn import BesselRBF, CosineCutoff, GaussianRBF, GaussianRBFCentered, MollifierCutoff

    model = one_of(rep, {representation.PaiNN: "painn", representation.SchNet: "schnet"}, "representation")
    electronic = [name_of(e) for e in getattr(rep, "electronic_embeddings", [])]
    expect(not electronic, "representation.electronic_embeddings", "none", ", ".join(electronic))
    bases = {GaussianRBF: "gaussian", GaussianRBFCentered: "gaussian_centered", BesselRBF: "bessel"}
    basis = one_of(rep.radial_basis, bases, "representation.radial_basis")
    cutoff_fn = one_of(rep.cutoff_fn, {CosineCutoff: "cosine", MollifierCutoff: "mollifier"}, "representation.cutoff_fn")
    cutoff = float(rep.cutoff_fn.cutoff)
    if cutoff_fn == "mollifier":
        # It ends the function this far before the cutoff, where the function has long been zero in f64.
        eps = float(rep.cutoff_fn.eps)
        expect(0 <= eps <= 1e-4 * cutoff, "representation.cutoff_fn.eps", f"at most {1e-4 * cutoff:g}", eps)
    f, k, layers = rep.n_atom_basis, rep.radial_basis.n_rbf, len(rep.interactions)
    expect(layers > 0, "representation.interactions", "at least one", layers)
    meta = {
        "model": model,
        "n_atom_basis": str(f),
        "n_interactions": str(layers),
        "n_rbf": str(k),
        "basis": basis,
        "cutoff": repr(cutoff),
        "cutoff_fn": cutoff_fn,
    }
    shapes = {"embedding.weight": (None, f), "cutoff_fn.cutoff": (1,)}
    shapes |= {f"radial_basis.{name}": (k,) for name in (("freqs",) if basis == "bessel" else ("offsets", "widths"))}

    def dense(name, n_in, n_out, bias=True):
        shapes[f"{name}.weight"] = (n_out, n_in)
        if bias:
            shapes[f"{name}.bias"] = (n_out,)

    blocks = []
    if model == "painn":
        expect(len(rep.mixing) == layers, "representation.mixing", f"{layers} blocks", len(rep.mixing))
        dense("filter_net", k, 3 * f * (1 if rep.share_filters else layers))
        linear(rep.filter_net, "representation.filter_net")
        for i in range(layers):
            for block, n_in in ((f"interactions.{i}.interatomic_context_net", f), (f"mixing.{i}.intraatomic_context_net", 2 * f)):
                blocks.append((block, [n_in, f, 3 * f]))
            mix = f"mixing.{i}.mu_channel_mix"
            dense(mix, f, 2 * f, bias=False)
            linear(rep.mixing[i].mu_channel_mix, f"representation.{mix}")
        epsilons = {mixing.epsilon for mixing in rep.mixing}
        expect(len(epsilons) == 1, "representation.mixing: epsilon", "one for all layers", sorted(epsilons))
        both = {shared(rep.interactions), shared(rep.mixing)}
        expect(len(both) == 1, "representation", "interactions and mixing both shared, or neither", "one of them shared")
        meta |= {"epsilon": repr(float(epsilons.pop())), "shared_filters": str(bool(rep.share_filters)).lower()}
    else:
        meta |= {"n_filters": str(rep.n_filters), "shared_filters": "false"}
        for i in range(layers):
            in2f = f"interactions.{i}.in2f"
            dense(in2f, f, rep.n_filters, bias=False)
            linear(rep.interactions[i].in2f, f"representation.{in2f}")
            blocks.append((f"interactions.{i}.f2out", [rep.n_filters, f, f]))
            blocks.append((f"interactions.{i}.filter_network", [k, rep.n_filters, rep.n_filters]))
    found = set()
    for name, sizes in blocks:
        block_sizes, block_activation = mlp(rep.get_submodule(name), f"representation.{name}")
        expect(block_sizes == sizes, f"representation.{name}", f"layers of {sizes}", block_sizes)
        found.add(block_activation)
        for n in range(len(sizes) - 1):
            dense(f"{name}.{n}", sizes[n], sizes[n + 1])
    expect(len(found) == 1, "representation: activations", "one for all layers", ", ".join(sorted(found)))
    meta |= {"activation": found.pop(), "shared_interactions": str(shared(rep.interactions)).lower()}
    return meta, shapes, cutoff


def embedding(module):
    """The table of embeddings [elements, features]; SchNetPack's nuclear embedding is such a table once it is trained."""
    import torch
    from schnetpack import nn

    if type(module) is torch.nn.Embedding:
        expect(module.max_norm is None, "representation.embedding", "no max_norm", module.max_norm)
        return module.weight
    if type(module) is getattr(nn, "NuclearEmbedding", None):
        say("representation.embedding: NuclearEmbedding, written as the table that it computes")
        return module.element_embedding + module.config_linear(module.electron_config)
    raise Refused(f"representation.embedding: expected torch.nn.Embedding or NuclearEmbedding, found {name_of(module)}")


def find_energy(model, cutoff):
    """The one Atomwise module that is the energy; what else the model computes must not change it."""
    from schnetpack import atomistic

    for module in model.input_modules:
        kinds = {atomistic.PairwiseDistances: 0, atomistic.FilterShortRange: 1, atomistic.Strain: 2}
        if one_of(module, kinds, "input_modules (without external fields)") == 1:
            short = module.short_range_cutoff
            expect(short >= cutoff, "FilterShortRange", f"a cutoff of at least {cutoff}", short)
    energies, derivatives = [], []
    for module in model.output_modules:
        kinds = {atomistic.Atomwise: energies, atomistic.Forces: derivatives, atomistic.Response: derivatives}
        one_of(module, kinds, "output_modules").append(module)
    expect(len(energies) == 1, "output_modules", "one Atomwise", f"{len(energies)}: {[e.output_key for e in energies]}")
    head = energies[0]
    for module in derivatives:
        expect(module.energy_key == head.output_key, f"energy of {name_of(module)}", head.output_key, module.energy_key)
        other = set(getattr(module, "response_properties", [])) - {"forces", "stress"}
        expect(not other, "Response", "forces and stress", ", ".join(sorted(other)))
    expect(head.n_out == 1, "Atomwise.n_out", 1, head.n_out)
    expect(head.aggregation_mode in ("sum", "avg"), "Atomwise.aggregation_mode", "sum or avg", head.aggregation_mode)
    return head


def find_offsets(model, key):
    """What the postprocessors add to the energy: per atom, and per element (or None)."""
    from schnetpack import transform

    mean, atomref = 0.0, None
    if not model.do_postprocessing:
        if len(model.postprocessors):
            say("do_postprocessing is False: as the model adds no offsets to its energies, none are written")
        return mean, atomref
    casts = {transform.CastTo64: False, transform.CastTo32: False, transform.CastMap: False}
    for module in model.postprocessors:
        if not one_of(module, {transform.AddOffsets: True, **casts}, "postprocessors"):
            continue
        if module._property != key:
            say(f"AddOffsets of {module._property!r} left out: the energy is {key!r}")
            continue
        expect(module.is_extensive, "AddOffsets.is_extensive", "True: offsets per atom", module.is_extensive)
        if module.add_mean:
            expect(module.mean.numel() == 1, "AddOffsets.mean", "one number", f"shape {list(module.mean.shape)}")
            mean += float(module.mean)
        if module.add_atomrefs:
            rows = module.atomref.detach().double()
            rows = rows.squeeze(-1) if rows.dim() == 2 else rows
            expect(rows.dim() == 1, "AddOffsets.atomref", "one number per element", f"shape {list(module.atomref.shape)}")
            expect(atomref is None or len(atomref) == len(rows), "AddOffsets", "atomrefs of one length", len(rows))
            atomref = rows if atomref is None else atomref + rows
    return mean, atomref


def convert(model):
    """Metadata and tensors of the file."""
    import torch

    rep = model.representation
    meta, shapes, cutoff = describe_representation(rep)
    head = find_energy(model, cutoff)
    sizes, head_activation = mlp(head.outnet, f"{head.output_key}: outnet")
    expect(sizes[0] == rep.n_atom_basis, "outnet", f"{rep.n_atom_basis} inputs", sizes[0])
    head_text = {"layers": sizes, "activation": head_activation or meta["activation"]}
    meta |= {"head": json.dumps(head_text, separators=(",", ":")), "aggregation": head.aggregation_mode}

    with torch.no_grad():
        # An embedding of another class has tensors of its own, and is written as the table that it stands for.
        state = {n: t for n, t in rep.state_dict().items() if not n.startswith("embedding.")}
        state["embedding.weight"] = embedding(rep.embedding)
    state.pop("cutoff_fn.eps", None)
    state = {f"representation.{n}": t for n, t in state.items()}
    state |= {f"head.outnet.{n}": t for n, t in head.outnet.state_dict().items()}
    # What an activation was given: that it computes a plain function has been checked.
    state = {n: t for n, t in state.items() if ".activation." not in n}
    shapes = {f"representation.{n}": shape for n, shape in shapes.items()}
    for n in range(len(sizes) - 1):
        shapes |= {f"head.outnet.{n}.weight": (sizes[n + 1], sizes[n]), f"head.outnet.{n}.bias": (sizes[n + 1],)}
    for name in sorted(set(shapes) ^ set(state)):
        have = ("a tensor of this name", "none")
        raise Refused("{}: expected {}, found {}".format(name, *(have if name in shapes else have[::-1])))
    mean, atomref = find_offsets(model, head.output_key)
    if atomref is not None:
        # The file says one of both, and every atom has an element.
        state["atomref"] = atomref + mean
        shapes["atomref"] = (None,)
    elif mean:
        meta["energy_offset_per_atom"] = repr(mean)
    for name, tensor in state.items():
        shape = shapes[name]
        fits = len(shape) == tensor.dim() and all(n in (None, found) for n, found in zip(shape, tensor.shape))
        expect(fits, name, f"shape {['any' if n is None else n for n in shape]}", list(tensor.shape))
        expect(bool(torch.isfinite(tensor).all()), name, "finite numbers", "others")
    return meta, state


def encode(meta, tensors):
    """The bytes of a safetensors file: names sorted, so that the same model gives the same bytes."""
    import torch

    header, data, begin = {"__metadata__": dict(sorted(meta.items()))}, [], 0
    for name, tensor in sorted(tensors.items()):
        dtype = "F64" if tensor.dtype == torch.float64 else "F32"
        values = tensor.detach().to(torch.float64 if dtype == "F64" else torch.float32).contiguous().numpy()
        data.append(values.astype("<f8" if dtype == "F64" else "<f4").tobytes())
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, begin + len(data[-1])]}
        begin += len(data[-1])
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(data)


def write(path, content):
    """The whole file or none of it, under its name."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(partial, 0o666 & ~mask)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def elements_of(text):
    """Atomic numbers, sorted, of a list of symbols or numbers."""
    numbers = set()
    for word in text.replace(",", " ").split():
        number = int(word) if word.isdecimal() else SYMBOLS.index(word) + 1 if word in SYMBOLS else 0
        expect(1 <= number <= len(SYMBOLS), "--elements", f"symbols or atomic numbers of 1 to {len(SYMBOLS)}", word)
        numbers.add(number)
    expect(numbers, "--elements", "symbols or atomic numbers", "none")
    return sorted(numbers)


def unit(asked, model, attribute, known, option, default):
    """A unit: as asked for, else the model's own where it says one, else the default."""
    own = getattr(model, attribute, None)
    expect(own is None or own in known, f"the model's {attribute}", f"one of {', '.join(known)}", own)
    expect(None in (own, asked) or own == asked, option, f"the model's own {attribute} {own}", asked)
    found = asked or own or default
    expect(found, option, f"one of {', '.join(known)}, as the model says none", "none")
    return found


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the file that SchNetPack wrote (`best_model`)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write, *.safetensors")
    parser.add_argument("--energy-unit", choices=ENERGY_UNITS, help="of the model's energies; SchNetPack's models do not say it")
    parser.add_argument("--length-unit", choices=LENGTH_UNITS, help="of its positions and cutoff [Ang]")
    parser.add_argument("--elements", help="what it was trained on, as H,C,O or 1,6,8")
    parser.add_argument("--license", help="of the weights, an SPDX identifier")
    parser.add_argument("--card", type=Path, help="a text file about the model, kept in its file")
    return parser.parse_args(argv)


def run(args):
    expect(args.model.is_file(), str(args.model), "a file", "none")
    expect(args.output.parent.is_dir(), str(args.output.parent), "a folder to write into", "none")
    same = args.output.exists() and args.output.samefile(args.model)
    expect(not same, "--output", "another file than the model's", str(args.output))
    more = {"elements": json.dumps(elements_of(args.elements), separators=(",", ":"))} if args.elements is not None else {}
    more |= {"license": args.license} if args.license else {}
    if args.card:
        try:
            more["card"] = args.card.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"--card: expected a text file in UTF-8, found: {error}") from error
    model, version = load(args.model)
    meta, tensors = convert(model)
    meta |= more | {
        "format": "forgefield-model",
        "schema": "1",
        "source": f"schnetpack {version or '2.0'}, {args.model.name}",
        "energy_unit": unit(args.energy_unit, model, "energy_unit", ENERGY_UNITS, "--energy-unit", None),
        "length_unit": unit(args.length_unit, model, "length_unit", LENGTH_UNITS, "--length-unit", "Ang"),
    }
    try:
        write(args.output, encode(meta, tensors))
    except OSError as error:
        raise Refused(f"{args.output}: expected to write it, found: {error}") from error
    n = sum(tensor.numel() for tensor in tensors.values())
    say(
        f"{args.output}: {meta['model']}, {n} numbers in {len(tensors)} tensors; energies in {meta['energy_unit']}, "
        f"lengths in {meta['length_unit']}"
    )


def main(argv=None):
    try:
        run(parse(argv))
    except Refused as error:
        say(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
