"""An edit in Python: compile it, forecast what it does, write the model.

python examples/in_python.py MANIFEST MODEL OUTPUT
"""

import sys

import timecli
from timecli.errors import TimecliError


def main(manifest_path: str, model_path: str, output: str) -> None:
    manifest = timecli.load_manifest(manifest_path)
    model = timecli.open_model(model_path)
    delta = timecli.compile(manifest, model)
    for forecast in timecli.plan(manifest, model, delta).forecasts:
        if forecast.share is not None:
            print(f"{forecast.row.prompt}: goes {forecast.share:.0%} of its way")
    timecli.apply(delta, model, output)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        print("in_python.py takes MANIFEST MODEL OUTPUT; give all three.", file=sys.stderr)
        sys.exit(2)
    try:
        main(*sys.argv[1:])
    except TimecliError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
