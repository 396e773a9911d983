"""Check or write a done-mark: whether a step's output is there and still made from the same things.

pydino mark check MARK [ingredients]      exit status 0: done and valid; 1: to be done, with the reason
pydino mark write MARK [ingredients] --output FILE ...
"""

from pydino.base import UserError, digest_of, ingredients, log, why_not_done, write_mark


def add_arguments(parser):
    parser.add_argument("action", choices=["check", "write"])
    parser.add_argument("mark", metavar="MARK", help="the mark file, such as data/train/.done.fbank")
    parser.add_argument(
        "--version", type=int, default=1, help="format version of the output (default: %(default)s)"
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="YAML",
        help="configuration file, compared by content",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an option that affects the output"
    )
    parser.add_argument(
        "--text", action="append", default=[], metavar="FILE", help="table or scp file, compared by its text"
    )
    parser.add_argument(
        "--after", action="append", default=[], metavar="MARK", help="mark of a step that came before"
    )
    parser.add_argument(
        "--output", action="append", default=[], metavar="FILE", help="(write) what was made; must stay there"
    )
    parser.add_argument(
        "--digest",
        action="store_true",
        help="(check) print a digest of the ingredients if it is to be done; a step hands it to its jobs as "
        "PYDINO_MADE_FROM, so that a rerun after a failure keeps the jobs that are done",
    )


def run(args):
    settings = {}
    for pair in args.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set '{pair}' is not of the form name=value")
        settings[name] = value
    wanted = ingredients(
        version=args.version, configs=args.config, settings=settings, texts=args.text, after=args.after
    )
    if args.action == "write":
        write_mark(args.mark, wanted, args.output)
        return 0
    reason = why_not_done(args.mark, wanted)
    if reason and args.digest:
        print(digest_of(wanted))
    if reason and reason != "not done yet":
        log(f"{args.mark}: to be redone: {reason}")
    return 1 if reason else 0
