"""`python -m bench`: every benchmark, in about a minute. Linux, because it reads /proc."""

from bench import codec, rpc

if __name__ == "__main__":
    rpc.report()
    codec.report()
