"""Invented expansions that are good: what tests of rewards and of the data road call gold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune.dataset.expansion_schema import Example
from finetune.rewards.adversaries import Gold

GOOD: dict[str, Any] = {
    "query": "tide tables",
    "output": [
        ["hyde", "Tide tables list the height of high and low water for a harbour on each day."],
        ["lex", "tide tables harbour height"],
        ["vec", "when is high water in the harbour today"],
    ],
}

_ROWS = """
sourdough starter smells
A hungry starter smells of acetone and shows dark liquid; two feedings a day with fresh flour bring the yeast back.
starter acetone smell feeding | sourdough hooch dark liquid yeast
why does a sourdough starter smell of acetone when it is hungry | how many feedings bring yeast back into a weak starter

read tide tables
Tide tables list the height of high and low water for a harbour; add an hour for daylight saving, and mind spring tides.
tide tables harbour height | spring tide low water daylight saving
how is the height of low water for a harbour found in tide tables | what do spring and neap mean for a harbour's tide

swift nest boxes
Swifts breed in holes under the eaves; a box needs a low entrance, no perch, and calls played in May attract a pair.
swift nest box entrance eaves | swifts breeding calls May pair
where under the eaves should a nest box for swifts hang | do calls played in May attract a breeding pair of swifts

tune a harpsichord
Set the temperament in the middle octave from a tuning fork, then copy octaves outward and listen for slow beats.
harpsichord temperament octave fork | tuning beats unison harpsichord strings
how do you set a temperament on a harpsichord with a fork | which beats tell that an octave of harpsichord strings is pure

canoe portage yoke
A curved yoke bolted to the gunwales spreads the weight of the canoe over both shoulders on long portage trails.
canoe yoke gunwales shoulders | portage trail carry weight
how is a yoke bolted to the gunwales of a canoe for a portage | how do paddlers carry a canoe on the shoulders along a trail

postgres vacuum bloat
Autovacuum removes dead tuples so that tables do not bloat; lower the scale factor for large tables with many updates.
postgres autovacuum dead tuples | vacuum bloat scale factor updates
how does autovacuum in postgres remove dead tuples | which scale factor keeps a table with many updates from bloat

nginx gateway timeout
The upstream did not answer within proxy_read_timeout; raise it for slow reports or have the upstream stream its reply.
nginx upstream proxy_read_timeout slow | gateway timeout upstream reply report
why does nginx report a gateway timeout for a slow upstream | how is proxy_read_timeout raised for reports behind nginx

rust borrow checker closure
A closure that captures by reference keeps the borrow alive; move the value in, or end the borrow before it is used again.
rust closure captures reference borrow | borrow checker move value closure
why does a closure that captures a reference trouble the borrow checker | when is a value moved into a rust closure

docker layer cache
Copy the lock file and install packages before the sources, so that the layer of packages is taken from the cache.
docker cache lock file install | image layer packages sources order
how does a lock file let docker take packages from the cache | why do changed sources void the layer of packages

python generator memory
A generator yields rows one by one, so a file of many gigabytes is read in constant memory instead of a huge list.
python generator yield rows | generator memory file gigabytes list
how does a python generator that yields rows keep memory constant | when is a list of rows too large for a file of gigabytes

carbon isotope dating
The share of carbon 14 halves in 5,730 years; calibration curves from tree rings turn the measured ratio into dates.
carbon isotope ratio calibration | radiocarbon dating tree rings curve
how do tree rings give a calibration curve for carbon dating | what ratio of isotopes is measured in a radiocarbon sample

moon phases calendar
The synodic month of 29.5 days sets the phases; calendars insert leap months so that new moons keep step with seasons.
moon phases synodic month | calendar leap month seasons moon
how long is a synodic month between two moon phases | why do calendars insert a leap month to keep step with seasons

beehive winter insulation
A dry hive survives cold; an insulated lid above the cluster stops drops of water from falling on the bees.
beehive insulated lid cluster | winter hive water drops bees
how does an insulated lid keep a beehive dry in winter | why does water drop on the winter cluster of bees in a hive

bread knife sharpening
Serrations are ground on one side only; a tapered ceramic rod follows each gullet, and a strop takes off the burr.
bread knife ceramic rod serrations | sharpening gullet burr strop
how is a ceramic rod used on the serrations of a bread knife | what takes off the burr after sharpening a serrated knife

chess rook endgame
The Lucena position builds a bridge with the rook on the fourth rank, so that checks are blocked and the pawn promotes.
rook endgame Lucena bridge | chess pawn promotes fourth rank rook
how does the Lucena bridge win a rook endgame in chess | why does the rook stand on the fourth rank before the pawn promotes

bicycle chain wear
A gauge that drops in at 0.75 percent means the chain is stretched; a worn chain soon ruins cassette teeth.
bicycle chain gauge stretched | worn chain cassette teeth
how does a gauge show that a bicycle chain is stretched | why does a worn chain ruin the teeth of a cassette

sea kayak rudder
A skeg holds the course in a side wind, a rudder steers; its cables must be free of sand before each launch.
kayak skeg course wind | rudder cables sand sea kayak
does a skeg or a rudder hold the course of a sea kayak in side wind | how are the cables of a kayak rudder kept free of sand

coffee grinder burrs
Conical burrs run slower and keep the beans cool; flat burrs give an even grind but retain more of the old dose.
coffee conical burrs beans | flat burrs grinder even dose retain
do conical burrs keep coffee beans cooler than flat burrs | which grinder burrs retain less of the old dose

map projection area
Equal-area projections such as Mollweide keep the size of continents and bend their shape; Mercator keeps angles instead.
equal-area projection Mollweide continents | map Mercator angles shape size
which map projection keeps the size of continents | why does Mercator keep angles and bend the size of continents

violin bow rosin
Dark rosin is softer and grips in dry rooms; too much of it makes a harsh tone and dust below the strings.
violin rosin dark grips | bow tone harsh dust strings
why does dark rosin grip the violin bow in dry rooms | does too much rosin make the tone of a bow harsh

glacier mass balance
Stakes drilled into the ice measure melt in the ablation zone, snow pits the gain above; the sum is the yearly balance.
glacier stakes ablation melt | mass balance snow pits yearly
how do stakes in the ablation zone measure the melt of a glacier | what do snow pits add to the yearly mass balance

tomato blossom rot
Blossom end rot is a lack of calcium in the fruit after uneven watering; mulch and steady water cure the next tomatoes.
tomato calcium uneven watering | blossom rot mulch fruit
why does uneven watering cause a lack of calcium in tomato fruit | does mulch help tomatoes with blossom end rot

lighthouse fresnel lens
A Fresnel lens bends light with rings of prisms into one beam, so that a small lamp is seen over twenty miles.
fresnel lens prisms rings | lighthouse lamp beam miles
how do rings of prisms in a fresnel lens form one beam | over how many miles is the lamp of a lighthouse seen

origami paper grain
Fold along the grain first: fibres crack across it. Wet folding with sized paper holds curves that dry creases lose.
origami fibres crack fold | paper grain wet folding creases
why do fibres crack when paper is folded across the grain | how does wet folding hold curves in origami creases
"""


def gold() -> list[Gold]:
    """Two dozen of them: each one passage, two lex and two vec lines."""
    rows = []
    for block in _ROWS.strip().split("\n\n"):
        query, hyde, lex, vec = block.split("\n")
        lines = [("hyde", hyde)] + [
            (kind, text) for kind, texts in (("lex", lex), ("vec", vec)) for text in texts.split(" | ")
        ]
        rows.append(Gold(query, tuple(lines)))
    return rows


EXAMPLES = [Example(query=one.query, output=one.lines, source="invented") for one in gold()]


def example(query: str, *lines: tuple[str, str], **fields: Any) -> Example:
    """An example, checked."""
    return Example.model_validate({"query": query, "output": lines, **fields})


def write_lines(path: Path, rows: list[Any]) -> Path:
    """A file with a row a line: a text as it is, all else as JSON."""
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path
