"""Share results in a team: labbook team {folder,cache,ssh,s3,push,pull} ...; docs/teams.md says when to use which."""

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

    folder = commands.add_parser("folder", help="the default remote is a folder")
    cache = commands.add_parser("cache", help="this clone keeps its objects in a folder with those of others")
    for command in (folder, cache):
        command.add_argument("folder", type=Path)
        command.add_argument("--group", help="whose members may all add to it")

    ssh = commands.add_parser("ssh", help="the default remote is a folder on a server with SSH")
    ssh.add_argument("address", help="user@host:/folder")
    ssh.add_argument("--port", type=int)
    ssh.add_argument("--keyfile", help="your private key, if it is none of ~/.ssh or the agent")

    s3 = commands.add_parser("s3", help="the default remote is a bucket that speaks S3")
    s3.add_argument("bucket", help="bucket/folder")
    s3.add_argument("--endpoint", help="address of the server, if it is not Amazon's")
    s3.add_argument("--region")
    s3.add_argument("--profile", help="in ~/.aws/credentials, with your keys")

    for command in (folder, ssh, s3):
        command.add_argument("--name", default="team", help="of the remote (default: team)")
    for name, text in (("push", "send results to a remote"), ("pull", "fetch results from a remote")):
        commands.add_parser(name, help=text).add_argument("--remote", help="its name (default: the default remote)")


def main(given: argparse.Namespace) -> None:
    """Do what the command line says."""
    repo = open_repository()
    match given.team_command:
        case "folder":
            told = set_folder(repo, given.name, given.folder, given.group)
        case "cache":
            told = set_cache(repo, given.folder, given.group)
        case "ssh":
            told = set_ssh(repo, given.name, given.address, given.port, given.keyfile)
        case "s3":
            told = set_s3(repo, given.name, given.bucket, endpoint=given.endpoint, region=given.region, profile=given.profile)
        case "push":
            told = push(repo, given.remote)
        case "pull":
            told = pull(repo, given.remote)
    print(told)


if __name__ == "__main__":
    labbook(["team", *sys.argv[1:]])
