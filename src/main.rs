use clap::Parser;

#[derive(Parser)]
enum Command {
    Generate(dce::cli::generate::Args),
}

fn main() -> anyhow::Result<()> {
    let Command::Generate(args) = Command::parse();
    dce::cli::generate::run(&args, &mut std::io::stdout().lock())
}
