"""Share results in a team: labbook team {folder,cache,ssh,s3,push,pull} ...; see docs/teams.md."""

import argparse
import sys
from pathlib import Path

from labbook.__main__ import main as labbook
from labbook.team.repository import open_repository
from labbook.team.setup import set_cache, set_folder, set_s3, set_ssh
from labbook.team.transfer import pull, push


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labbook team`."""
    parser.epilog = "See docs/teams.md."
    commands = parser.add_subparsers(dest="team_command", required=True)

    folder = commands.add_parser("folder", help="make a folder the default remote")
    cache = commands.add_parser("cache", help="store the objects of this clone in a cache shared with other clones")
    for command in (folder, cache):
        command.add_argument("folder", type=Path)
        command.add_argument("--group", help="group whose members can write to the folder")

    ssh = commands.add_parser("ssh", help="make a folder on an SSH server the default remote")
    ssh.add_argument("address", help="user@host:/folder")
    ssh.add_argument("--port", type=int)
    ssh.add_argument("--keyfile", help="private key, if it is neither in ~/.ssh nor in the agent")

    s3 = commands.add_parser("s3", help="make an S3 bucket the default remote")
    s3.add_argument("bucket", help="bucket/folder")
    s3.add_argument("--endpoint", help="URL of the server, if it is not Amazon S3")
    s3.add_argument("--region")
    s3.add_argument("--profile", help="profile in ~/.aws/credentials")

    for command in (folder, ssh, s3):
        command.add_argument("--name", default="team", help="name of the remote (default: team)")
    for name, text in (("push", "push results to a remote"), ("pull", "fetch results from a remote")):
        commands.add_parser(name, help=text).add_argument("--remote", help="name of the remote (default: the default remote)")


def main(given: argparse.Namespace) -> None:
    """Run a subcommand and print its result."""
    repo = open_repository()
    match given.team_command:
        case "folder":
            message = set_folder(repo, given.name, given.folder, given.group)
        case "cache":
            message = set_cache(repo, given.folder, given.group)
        case "ssh":
            message = set_ssh(repo, given.name, given.address, given.port, given.keyfile)
        case "s3":
            message = set_s3(
                repo, given.name, given.bucket, endpoint=given.endpoint, region=given.region, profile=given.profile
            )
        case "push":
            message = push(repo, given.remote)
        case "pull":
            message = pull(repo, given.remote)
    print(message)


if __name__ == "__main__":
    labbook(["team", *sys.argv[1:]])
