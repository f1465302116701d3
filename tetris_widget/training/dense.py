"""SB3's own MLP policy under guideline rules, compiled: whole games in one call.

Owns the arithmetic of two hidden layers on what a player sees, which is zeros and ones:
only the ones are looked at. Deliberately doesn't know algorithms, or when a game is
long enough.

Layers are a tuple: the weights (inputs, units) and biases (units,) of both hidden
layers, and those of the actions, (actions, units) and (actions,); float32. The inputs
are the `flat` observation.
"""

from __future__ import annotations

import numpy as np

from tetris_widget.game.compiler import kernel, part
from tetris_widget.game.guideline_kernels import (
    mask_keys,
    mask_placements,
    observe,
    place,
    step,
)


@part
def choose(seen, mask, layers, first, second):  # type: ignore[no-untyped-def]
    """Return the likeliest legal action; the first one wins.

    Args:
        seen: (inputs,) uint8.
        mask: (actions,) bool.
        layers: see the module.
        first, second: (units,) float32, overwritten.
    """
    to_first, first_biases, to_second, second_biases, to_actions, biases = layers
    for unit in range(first.shape[0]):
        first[unit] = first_biases[unit]
    for i in range(to_first.shape[0]):
        if seen[i]:
            for unit in range(first.shape[0]):
                first[unit] += to_first[i, unit]
    for unit in range(second.shape[0]):
        second[unit] = second_biases[unit]
    for i in range(first.shape[0]):
        value = np.tanh(first[i])
        for unit in range(second.shape[0]):
            second[unit] += to_second[i, unit] * value
    for unit in range(second.shape[0]):
        second[unit] = np.tanh(second[unit])
    best, highest = 0, np.float32(-np.inf)
    for action in range(mask.shape[0]):
        if mask[action]:
            score = biases[action]
            for unit in range(second.shape[0]):
                score += to_actions[action, unit] * second[unit]
            if score > highest:
                best, highest = action, score
    return best


@kernel
def play_greedy(  # type: ignore[no-untyped-def]
    games,
    cells,
    rules,
    previews,
    size,
    is_keys,
    waited,
    over,
    most,
    layers,
    max_moves,
    max_pieces,
):
    """Play every game that isn't over by the likeliest legal actions.

    Args:
        games, cells: of a `GuidelineGames`.
        rules: theirs.
        previews: how many of the next pieces are seen.
        size: of an observation.
        is_keys: whether an action is a key, or else a placement.
        waited: (n,) int64, updated: actions since a game's last piece locked.
        over: (n,) bool, updated.
        most: a game is over, too, when it has waited for so many.
        layers: see the module.
        max_moves: moves per game in this call.
        max_pieces: a game stops (it isn't over) after so many pieces.

    Returns:
        The number of moves made.
    """
    n_actions = layers[5].shape[0]
    seen = np.zeros((1, size), np.uint8)
    mask = np.zeros((1, n_actions), np.bool_)
    scratch = np.zeros(n_actions, np.bool_)
    first = np.zeros(layers[1].shape[0], np.float32)
    second = np.zeros(layers[3].shape[0], np.float32)
    action = np.zeros(1, np.int64)
    which = np.zeros(1, np.int64)
    made = 0
    for number in range(games.shape[0]):
        game, board = games[number : number + 1], cells[number : number + 1]
        for _ in range(max_moves):
            placed = game[0].pieces
            if over[number] or placed >= max_pieces:
                break
            observe(game, board, which, rules, previews, seen)
            if is_keys:
                mask_keys(game, rules, mask)
            else:
                mask_placements(game, rules, mask)
            action[0] = choose(seen[0], mask[0], layers, first, second)
            if is_keys:
                step(game, board, action, rules)
            else:
                place(game, board, action, rules, scratch)
            waited[number] = 0 if game[0].pieces > placed else waited[number] + 1
            if game[0].over or waited[number] >= most:
                game[0].over = True
                over[number] = True
            made += 1
    return made
