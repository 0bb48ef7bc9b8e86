"""The installed names. A worker imports the floors as top-level packages, so each is named here; tests stay out."""

from setuptools import setup

setup(
    name="horizon-market-data",
    version="0.1.0",
    description="Market-data pipelines on Kafka, Beam and Flink whose replay equals the live run, bit for bit",
    python_requires=">=3.11",
    packages=["schemas", "transforms", "pipelines", "runners", "runners.commands", "runners.stack"],
    package_data={
        "schemas": ["*.proto", "*.pyi"],
        "runners": ["artifacts.lock", "topics.toml", "java/**/*.java", "java/META-INF/services/*"],
    },
    entry_points={"console_scripts": ["horizon=runners.__main__:main"]},
    # What it needs is pinned with hashes in requirements.txt; `make setup` installs exactly that.
)
