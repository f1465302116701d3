"""What kernels ask of the machine and numba has no name for.

Owns single instructions, and room on the stack of a kernel. Deliberately doesn't know
what is done with them.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.extending import intrinsic


@intrinsic
def popcount(typing_context, bits):
    """Count the bits that are set: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


@intrinsic
def leading_zeros(typing_context, bits):
    """Count the zeros above the highest bit that is set, of 64: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


def _one_of_two(comparison):
    """Return what an intrinsic does that chooses one of two int64."""

    def generate(context, builder, signature, arguments):
        chosen = builder.icmp_signed(comparison, *arguments)
        return builder.select(chosen, *arguments)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def larger(typing_context, one, other):
    """Return the larger one of two int64; numba's `max` is compiled like a function."""
    return _one_of_two(">")


@intrinsic
def smaller(typing_context, one, other):
    """Return the smaller one of two int64."""
    return _one_of_two("<")


def _pointer(array, value):
    """Return what an intrinsic does that points to an array's memory as `value`s."""
    if array.layout != "C":
        raise errors.TypingError(f"{array} is not contiguous")
    pointer = types.CPointer(value)

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.bitcast(data, context.get_value_type(pointer))

    return pointer(array), generate


@intrinsic
def values_of(typing_context, array):
    """Return a pointer to a contiguous array's values, one after the other.

    Much faster to compile than a view, and nothing is counted. It keeps no array alive:
    that is for whoever called.
    """
    return _pointer(array, array.dtype)


@intrinsic
def words_of(typing_context, array):
    """Return a pointer to a contiguous array's bytes, four in each uint32."""
    return _pointer(array, types.uint32)


@intrinsic
def put_word(typing_context, pointer, at, word):
    """Write eight bytes from any place on, the lowest first.

    So they are in memory on every machine that numba compiles for.

    Args:
        pointer: to bytes.
        at: where, from there.
        word: uint64.
    """

    def generate(context, builder, signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        word_there = builder.bitcast(place, ir.IntType(64).as_pointer())
        builder.store(arguments[2], word_there, align=1)

    return types.void(pointer, types.int64, types.uint64), generate


@intrinsic
def fetch(typing_context, pointer, at):
    """Have the line of memory fetched that is written soon; wait for nothing."""
    for_writing, to_stay, data = 1, 3, 1

    def generate(context, builder, signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [place.type],
            ir.FunctionType(ir.VoidType(), [place.type, flag, flag, flag]),
        )
        builder.call(function, [place, *map(flag, (for_writing, to_stay, data))])

    return types.void(pointer, types.int64), generate


@intrinsic(prefer_literal=True)
def room(typing_context, dtype, size):
    """Return a pointer to room for `size` (a constant) values, with anything in it.

    It is on the stack, is gone when the function returns, and costs nothing; an array
    is counted, and what makes and frees it is compiled again in every kernel.
    """
    if not isinstance(size, types.IntegerLiteral):
        raise errors.RequireLiteralValue(size)
    n_values, value = size.literal_value, dtype.dtype

    def generate(context, builder, signature, arguments):
        return cgutils.alloca_once(builder, context.get_data_type(value), n_values)

    return types.CPointer(value)(dtype, size), generate
