import time, json
from graftrec.train import train
from graftrec.overrides import problems_of_command
def test_it(shop_settings, compose, tmp_path):
    t=time.time()
    tree=compose([*shop_settings, "++trainer.limit_train_batches=2", "++trainer.max_steps=2", "++trainer.log_every_n_steps=1", "twin=false"])
    print("compose", time.time()-t); t=time.time()
    print(train(tree,tmp_path)); print("train", time.time()-t); t=time.time()
    print(train(compose([*shop_settings, "++trainer.limit_train_batches=2", "++trainer.max_steps=2", "++trainer.log_every_n_steps=1", "twin=false", "trunk=mmoe"]),tmp_path/"b"))
    print("train", time.time()-t); t=time.time()
    print(problems_of_command("train",["trunk=mmoe", *shop_settings],[])); print("problems", time.time()-t)
    print(sorted(p.name for p in tmp_path.iterdir()))
