from bench import rpc

if __name__ == "__main__":
    rpc.report()
